//! What `watch` says, to an MQTT broker. The process that looks at samples is confined and has
//! no network, so another one does it: this same program, started with [`FLAG`], with a
//! [`Setup`] on its first line of standard input and then a message a line. Here is what goes
//! to it, and what Home Assistant is told; `mqtt/publishing.rs` is that other process, built
//! with the feature `mqtt`.

#[cfg(feature = "mqtt")]
mod publishing;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::beside::Beside;
use crate::error::{Error, ErrorKind, Result};
use crate::store;

#[cfg(feature = "mqtt")]
pub use publishing::publish;

/// The argument that makes this program a publisher.
pub const FLAG: &str = "--publish";

/// Where a broker listens if nobody states it.
const USUAL_PORT: u16 = 1883;
/// Largest file with a password, in bytes.
const MAX_PASSWORD_BYTES: u64 = 4096;
/// How long the publisher has to say goodbye.
const FAREWELL: Duration = Duration::from_secs(4);

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    host: String,
    port: u16,
    /// Name and password.
    login: Option<(String, String)>,
    topic: String,
}

impl Broker {
    /// The broker at `HOST` or `HOST:PORT`, and the topic there.
    ///
    /// # Errors
    /// `Usage` when either is none.
    pub fn new(address: &str, topic: &str) -> Result<Self> {
        let wrong = |what: &str| Error::new(ErrorKind::Usage, what);
        // An address of IPv6 stands in brackets where a port follows.
        let bracketed = address.strip_prefix('[').and_then(|it| it.split_once(']'));
        let (host, port) = match (bracketed, address.split_once(':')) {
            (Some((host, "")), _) => (host, None),
            (Some((host, rest)), _) => (host, Some(rest.strip_prefix(':').unwrap_or_default())),
            (None, Some((host, port))) if !port.contains(':') => (host, Some(port)),
            (None, _) => (address, None),
        };
        let port = port.map_or(Ok(USUAL_PORT), str::parse).unwrap_or(0);
        if host.is_empty() || host.contains(['/', '@', ' ', '[']) || port == 0 {
            let what = format!("--mqtt: \"{address}\" is no broker; give HOST or HOST:PORT");
            return Err(wrong(&what));
        }
        let parts_are_there = topic.split('/').all(|part| !part.is_empty());
        if !parts_are_there || topic.contains(['+', '#', '\0']) || topic.len() > 1000 {
            let what = format!(
                "--mqtt-topic: \"{topic}\" is no topic to publish to; give one such as field/pond, \
                 without + and #"
            );
            return Err(wrong(&what));
        }
        Ok(Self {
            host: host.into(),
            port,
            login: None,
            topic: topic.into(),
        })
    }

    /// The same with a name and the password in the first line of a file: the list of
    /// processes would show one that is a flag.
    ///
    /// # Errors
    /// `BadInput` when the file cannot be read.
    pub fn with_login(mut self, name: &str, password: Option<&Path>) -> Result<Self> {
        let password = match password {
            None => String::new(),
            Some(path) => {
                let bytes = store::read(path, MAX_PASSWORD_BYTES)?;
                let text = String::from_utf8(bytes).map_err(|_| {
                    let remedy = "put the password into its first line";
                    Error::at(ErrorKind::BadInput, path, "is no text", remedy)
                })?;
                text.lines().next().unwrap_or_default().into()
            }
        };
        self.login = Some((name.into(), password));
        Ok(self)
    }
}

/// What the publisher is told first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Where messages go.
    pub broker: Broker,
    /// Home Assistant's prefix of topics, where it is to find the sensor by itself.
    pub discovery: Option<String>,
    /// The classes.
    pub labels: Vec<String>,
    /// Whose folder or file it is: root becomes that one. `None` to stay root.
    pub owned: Option<PathBuf>,
}

impl Setup {
    /// The topic that says whether anybody publishes: `online` or `offline`, retained.
    pub fn availability(&self) -> String {
        format!("{}/availability", self.broker.topic)
    }

    /// The topic, as a name of letters, digits and `_`.
    fn id(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let topic = self.broker.topic.trim_start_matches("fieldtune/");
        format!("fieldtune_{}", topic.chars().map(plain).collect::<String>())
    }

    /// Topics and documents that tell Home Assistant about two sensors of one device: the
    /// label, and how probable it is. As of its documentation "MQTT sensor" and "MQTT
    /// discovery".
    pub fn announcements(&self) -> Vec<(String, Value)> {
        const UNKNOWN: &str = "unknown";
        let Some(prefix) = &self.discovery else {
            return Vec::new();
        };
        let (id, topic) = (self.id(), &self.broker.topic);
        let mut options = self.labels.clone();
        if !options.iter().any(|label| label == UNKNOWN) {
            options.push(UNKNOWN.into());
        }
        let common = json!({
            "state_topic": topic,
            "availability_topic": self.availability(),
            "device": {
                "identifiers": [id],
                "name": topic,
                "manufacturer": "fieldtune",
                "sw_version": env!("CARGO_PKG_VERSION"),
            },
        });
        let with = |name: &str, own: Value| {
            let mut all = common.clone();
            all["name"] = json!(name);
            all["unique_id"] = json!(format!("{id}_{name}"));
            if let (Some(all), Value::Object(own)) = (all.as_object_mut(), own) {
                all.extend(own);
            }
            (format!("{prefix}/sensor/{id}/{name}/config"), all)
        };
        vec![
            with(
                "label",
                json!({
                    "device_class": "enum",
                    "options": options,
                    "value_template":
                        "{{ 'unknown' if value_json.unknown else value_json.label }}",
                    "json_attributes_topic": topic,
                }),
            ),
            with(
                "probability",
                json!({
                    "unit_of_measurement": "%",
                    "state_class": "measurement",
                    "value_template": "{{ (100 * value_json.probability) | round(1) }}",
                }),
            ),
        ]
    }
}

/// Nothing can be published: the program was built without.
#[cfg(not(feature = "mqtt"))]
pub fn publish() {}

/// The process that publishes. Told goodbye and ended when this is dropped.
#[derive(Debug)]
pub struct Publisher(Beside);

impl Publisher {
    /// Starts `publisher`, this program with [`FLAG`]. Belongs before this process is confined.
    ///
    /// # Errors
    /// `Usage` when the program was built without MQTT; `Failed` when it cannot be started.
    pub fn start(publisher: Command, setup: &Setup) -> Result<Self> {
        if !cfg!(feature = "mqtt") {
            let what = "this program was built without MQTT; build it with `--features mqtt`, or \
                        take a board's package, which has it";
            return Err(Error::new(ErrorKind::Usage, what));
        }
        let publisher = Beside::start(publisher, Stdio::null(), setup, FAREWELL);
        publisher.map(Self).map_err(|error| {
            let what = format_args!("nothing can be published ({error}); run again");
            Error::new(ErrorKind::Failed, what)
        })
    }

    /// Publishes a message of one line. Without a connection it waits for one, and the oldest
    /// are dropped when there are many.
    ///
    /// # Errors
    /// `Failed` when the process is gone.
    pub fn say(&mut self, line: &str) -> Result<()> {
        self.0.say(&line.trim_end()).map_err(|error| {
            let what = format_args!("the process that publishes is gone ({error}); run again");
            Error::new(ErrorKind::Failed, what)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_has_a_host_a_port_and_a_topic() {
        for (address, host, port) in [
            ("pond", "pond", 1883),
            ("10.0.0.7:18830", "10.0.0.7", 18830),
            ("[fe80::1]:9", "fe80::1", 9),
            ("[fe80::1]", "fe80::1", 1883),
            ("fe80::1", "fe80::1", 1883),
        ] {
            let broker = Broker::new(address, "a/b").unwrap();
            assert_eq!(
                (broker.host.as_str(), broker.port),
                (host, port),
                "{address}"
            );
        }
        for address in [
            "",
            ":1883",
            "pond:",
            "pond:0",
            "pond:65536",
            "mqtt://pond",
            "me@pond",
            "[::1",
            "[::1]9",
        ] {
            let refused = Broker::new(address, "a");
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Usage, "{address}");
        }
        for topic in ["", "/a", "a/", "a//b", "a/+", "#", "a\0"] {
            let refused = Broker::new("pond", topic);
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Usage, "{topic:?}");
        }
    }

    #[test]
    fn a_label_called_unknown_is_an_option_once() {
        let setup = |labels: &[&str]| Setup {
            broker: Broker::new("pond", "fieldtune/north pond").unwrap(),
            discovery: Some("homeassistant".into()),
            labels: labels.iter().map(ToString::to_string).collect(),
            owned: None,
        };
        let options = |labels: &[&str]| setup(labels).announcements()[0].1["options"].clone();
        assert_eq!(options(&["frog"]), json!(["frog", "unknown"]));
        assert_eq!(options(&["unknown", "frog"]), json!(["unknown", "frog"]));
        assert_eq!(setup(&[]).id(), "fieldtune_north_pond");
    }
}
