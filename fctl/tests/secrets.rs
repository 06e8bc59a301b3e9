//! Secrets on the embedded cluster: given to tasks, and found on no disk and in no answer.

mod common;

use std::fs;
use std::path::Path;

use common::Yard;

const VALUE: &str = "open-sesame-4711";
/// As the task of the test prints it, so that it is found where it was printed and nowhere else.
const PRINTED: &str = "OPEN-SESAME-4711";

fn put(yard: &Yard, name: &str, value: &str) {
    let mut command = yard.command(&["secret", "put", name, "--local"]);
    let file = yard.write("value", value);
    command.stdin(fs::File::open(&file).unwrap());
    let ran = yard.start_command(command).wait();
    fs::remove_file(file).unwrap();
    assert_eq!(ran.code(), 0, "{ran:#?}");
}

/// The files below a folder that hold this text.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(holding(&path, text));
        } else if kind.is_file()
            && fs::read(&path).unwrap_or_default().windows(text.len()).any(|it| it == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

fn flow(isolation: &str) -> String {
    let isolation = match isolation {
        "container" => "image = \"host\"".to_owned(),
        other => format!("isolation = \"{other}\""),
    };
    format!(
        r#"name = "keys"
[steps.show]
{isolation}
run = ["sh", "-c", "echo $KEY | tr a-z A-Z; tr a-z A-Z < $FLOWYARD_SECRETS/key.txt; stat -c %a $FLOWYARD_SECRETS/key.txt"]
env = {{ KEY = {{ secret = "KEY" }} }}
secret_files = {{ "key.txt" = "KEY" }}
"#
    )
}

#[test]
fn a_task_is_given_its_secrets_and_no_disk_and_no_answer_has_them() {
    let yard = Yard::new();
    put(&yard, "KEY", &format!("{VALUE}\n"));
    let listed = yard.ok(&["secret", "ls", "--local"]);
    assert!(listed.contains("KEY") && listed.contains("every"), "{listed}");
    for (job, isolation) in [("1", "container"), ("2", "process")] {
        let file = format!("{isolation}.toml");
        yard.write(&file, flow(isolation));
        let ran = yard.run(&["submit", "--local", &file]);
        assert_eq!(ran.code(), 0, "{ran:#?}");
        let logs = yard.ok(&["logs", &format!("{job}/show"), "--local"]);
        assert_eq!(logs.lines().collect::<Vec<_>>(), [PRINTED, PRINTED, "400"], "{isolation}");
        for asked in [&["show", job, "--local"][..], &["-o", "json", "show", job, "--local"], &["why", job, "--local"]]
        {
            let said = yard.run(asked);
            assert!(!format!("{said:?}").contains(VALUE), "{said:?}");
        }
        yard.nothing_is_left();
    }
    assert_eq!(holding(yard.folder(), VALUE), Vec::<String>::new());
    for place in ["/dev/shm", "/run"] {
        assert_eq!(holding(Path::new(place), VALUE), Vec::<String>::new(), "left in memory");
    }
}

#[test]
fn a_secret_that_is_not_kept_or_was_removed_is_named_and_nothing_else() {
    let yard = Yard::new();
    yard.write("flow.toml", flow("process"));
    yard.refused(
        112,
        &["steps.show.env.KEY", "there is no secret `KEY` for queue `default`"],
        &["submit", "--local", "flow.toml"],
    );
    put(&yard, "KEY", VALUE);
    yard.ok(&["secret", "rotate-key", "--local"]);
    assert_eq!(yard.run(&["submit", "--local", "flow.toml"]).code(), 0, "the new key opens it");
    yard.ok(&["secret", "rm", "KEY", "--local"]);
    yard.refused(113, &["there is no secret `KEY`"], &["secret", "rm", "KEY", "--local"]);
    yard.refused(110, &["standard input is empty"], &["secret", "put", "KEY", "--local"]);
}
