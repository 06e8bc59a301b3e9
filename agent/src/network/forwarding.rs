//! Forwarding of packets by this machine, which private networks need and bare machines have switched off.
//!
//! Whoever switches it on makes the machine a router for everybody. So between the interfaces that were there when we did, the
//! filter goes on forwarding nothing; what came later (other containers' bridges) is none of our business. Which those are is
//! written down.

use std::path::Path;

const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";

/// Sees to it that it is on; gives the interfaces that are to be kept apart.
pub(super) fn on(note: &Path) -> Result<Vec<String>, String> {
    let is_on = std::fs::read_to_string(SWITCH).map_err(|error| format!("{SWITCH}: {error}"))?.trim() == "1";
    if !is_on {
        let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        // First the note: without it the machine would be a router after our death.
        std::fs::write(note, interfaces().join("\n")).map_err(|error| failed(note, error))?;
        std::fs::write(SWITCH, "1").map_err(|error| failed(Path::new(SWITCH), error))?;
    }
    Ok(noted(note))
}

/// Switches it off again if it was us, unless somebody may have come to need it.
pub(super) fn off(note: &Path) {
    let noted = noted(note);
    if noted.is_empty() {
        return;
    }
    if interfaces().iter().all(|name| noted.contains(name)) {
        // If it stays on, the machine forwards as one with other containers does.
        let _ = std::fs::write(SWITCH, "0");
    }
    let _ = std::fs::remove_file(note);
}

fn noted(note: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(note).unwrap_or_default();
    text.lines().filter(|name| is_plain(name)).map(str::to_owned).collect()
}

/// All interfaces but loopback.
fn interfaces() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let names = text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim()));
    names.filter(|name| *name != "lo" && is_plain(name)).map(str::to_owned).collect()
}

/// Names go into the filter's script, and the kernel allows nearly everything in them.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || "._-@".contains(char))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_stay_out_of_the_script() {
        assert!(is_plain("eth0") && is_plain("enp3s0f1.100") && is_plain("wg-lab"));
        assert!(!is_plain("a\" drop") && !is_plain("") && !is_plain("a b"));
    }
}
