//! What several agents report together comes to the same as if each had come alone.

use flowyard_model::{Command, Entry, Node, NodeId, Record, Revision, Task, TaskKey, TaskState, TimeMs};
use flowyard_state::{State, apply};

/// Tasks, nodes, and how many jobs.
type Told = (Vec<(TaskKey, Task)>, Vec<(NodeId, Node)>, usize);

/// Tasks and nodes; how long a task waits is drawn anew by each entry.
fn seen(state: &State) -> Told {
    let task = |record| match record {
        Record::Task(key, task) => {
            let mut task = Task::clone(&task);
            if let TaskState::Waiting(_) = task.state {
                task.state = TaskState::Waiting(TimeMs(0));
            }
            Some((key, task))
        }
        _ => None,
    };
    let nodes = state.nodes().map(|(id, node)| (id, Node::clone(node)));
    (state.records().filter_map(task).collect(), nodes.collect(), state.finished_count())
}

/// If the entry says what several agents report.
pub(crate) fn is_as_one_by_one(before: &State, now: &State, entry: &Entry) {
    let Command::ReportMany(agents) = &entry.command else { return };
    let mut apart = before.clone();
    for agent in agents {
        let index = Revision(apart.revision().0 + 1);
        apply(&mut apart, Entry { index, time: entry.time, command: Command::ReportAttempts(agent.clone()) });
    }
    assert_eq!(seen(&apart), seen(now));
}
