//! What this machine has to take samples from.

use std::fs;

use crate::senses::Kind;

/// Sources of this kind that are here, in a few words for the end of a message.
pub fn present(kind: Kind) -> String {
    let found = match kind {
        Kind::Picture => cameras(),
        Kind::Sound => microphones(),
        Kind::Series => serial_ports(),
    };
    match (found.is_empty(), kind) {
        (false, _) => format!("here are: {}", found.join(", ")),
        (true, Kind::Picture) => {
            "no /dev/video* is here; plug a camera in, or give --camera pi or --camera-command"
                .into()
        }
        (true, Kind::Sound) => {
            "no sound card is here; plug a microphone in, or give --microphone-command".into()
        }
        (true, Kind::Series) => {
            "no /dev/ttyACM* or /dev/ttyUSB* is here; plug the device in".into()
        }
    }
}

/// Paths in a folder whose names start like this, sorted.
fn devices(folder: &str, start: &str) -> Vec<String> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = paths.filter(|entry| entry.file_name().to_string_lossy().starts_with(start));
    let mut found: Vec<String> = named
        .map(|entry| entry.path().display().to_string())
        .collect();
    found.sort();
    found
}

fn cameras() -> Vec<String> {
    devices("/dev", "video")
}

fn serial_ports() -> Vec<String> {
    let places = [
        ("/dev/serial/by-id", ""),
        ("/dev", "ttyACM"),
        ("/dev", "ttyUSB"),
    ];
    let found = places.map(|(folder, start)| devices(folder, start));
    found.concat()
}

fn microphones() -> Vec<String> {
    let cards = fs::read_to_string("/proc/asound/cards").unwrap_or_default();
    cards_of(&cards)
}

/// ` 0 [PCH            ]: HDA-Intel - HDA Intel PCH` names the card `PCH`.
fn cards_of(cards: &str) -> Vec<String> {
    let name = |line: &str| {
        let (_, rest) = line.split_once('[')?;
        let (name, what) = rest.split_once("]:")?;
        let what = what.split_once(" - ").map_or(what, |(_, what)| what).trim();
        Some(format!("plughw:CARD={} ({what})", name.trim()))
    };
    cards.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_named_as_they_are_given() {
        let text = " 0 [PCH            ]: HDA-Intel - HDA Intel PCH\n                      HDA Intel PCH at 0xf1\n 1 [Mic            ]: USB-Audio - Blue [Yeti]\n";
        assert_eq!(
            cards_of(text),
            [
                "plughw:CARD=PCH (HDA Intel PCH)",
                "plughw:CARD=Mic (Blue [Yeti])"
            ]
        );
        assert_eq!(cards_of("--- no soundcards ---\n"), [""; 0]);
    }
}
