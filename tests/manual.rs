//! Promise: every command has a page of the manual, and shells can complete all of them.

use fieldtune_tests::{fieldtune, run};

fn printed(arguments: &[&str]) -> String {
    let ran = run(fieldtune().args(arguments));
    ran.succeeded();
    ran.stdout
}

#[test]
fn every_command_has_a_page_that_names_it_and_its_example() {
    let list = printed(&["man", "--list"]);
    for wanted in ["train", "collect", "watch", "doctor", "head show"] {
        assert!(list.lines().any(|line| line == wanted), "{list}");
    }
    for name in list.lines() {
        let mut arguments = vec!["man"];
        arguments.extend(name.split(' '));
        let page = printed(&arguments);
        let title = format!(".TH fieldtune-{} 1", name.replace(' ', "-"));
        let parts: Vec<&str> = name.split(' ').collect();
        assert!(page.contains(&title), "{title}: {page}");
        // `head` alone only lists its own commands.
        let lists = page.contains(".SH SUBCOMMANDS");
        assert!(lists || page.contains("Example:"), "{parts:?}: {page}");
    }
    let top = printed(&["man"]);
    assert!(top.contains(".TH fieldtune 1"), "{top}");
    for name in list.lines().filter(|line| !line.contains(' ')) {
        assert!(
            top.contains(&format!("fieldtune\\-{name}(1)")),
            "{name}: {top}"
        );
    }
}

#[test]
fn shells_complete_commands_and_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        for word in ["fieldtune", "watch", "false-alarms"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn an_unknown_page_is_refused() {
    let line = run(fieldtune().args(["man", "dance"]));
    line.refused(2, "there is no command dance");
}
