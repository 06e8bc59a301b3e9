//! What the quick start of a document tells an operator to type, and where.
//!
//! Commands are lines indented by four spaces; `# on HOST` among them says where those that follow are typed. A block that begins with
//! `# instead` is another way to do what was done before it.
#![allow(unreachable_pub, reason = "it is a part of the test binary")]

/// A command, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed {
    pub host: String,
    pub command: String,
}

/// The section of a document below this heading.
pub fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let rest = document.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("there is no `{heading}`")).1;
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

/// The blocks of commands of a section, in order.
pub fn blocks(section: &str) -> Vec<Vec<Typed>> {
    let mut blocks = Vec::new();
    let mut lines = section.lines().peekable();
    while lines.peek().is_some() {
        let block: Vec<&str> = std::iter::from_fn(|| lines.next_if(|line| line.starts_with("    "))).collect();
        match block.first().map(|line| line.trim()) {
            None => drop(lines.next()),
            Some(first) if first.starts_with("# instead") => {}
            Some(_) => blocks.push(typed(&block)),
        }
    }
    blocks
}

fn typed(block: &[&str]) -> Vec<Typed> {
    let mut host = None;
    let mut all = Vec::new();
    for line in block.iter().map(|line| line.trim()) {
        match (line.strip_prefix("# on "), &host) {
            (Some(next), _) => host = Some(next.to_owned()),
            (None, Some(host)) => all.push(Typed { host: host.clone(), command: line.to_owned() }),
            (None, None) => panic!("it is not said where `{line}` is typed"),
        }
    }
    all
}

/// The same block for another host.
pub fn likewise(block: &[Typed], host: &str, other: &str) -> Vec<Typed> {
    let on_other =
        |typed: &Typed| Typed { host: typed.host.replace(host, other), command: typed.command.replace(host, other) };
    block.iter().map(on_other).collect()
}
