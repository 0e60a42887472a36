//! The flags that name an MQTT broker.

use std::path::{Path, PathBuf};

use clap::Args;
use fieldtune::error::Result;
use fieldtune::head::Head;
use fieldtune::mqtt::{Broker, FLAG, Publisher, Setup};

use super::sources::once_more;

/// Whether what is said is published too, and where.
#[derive(Clone, Debug, Args)]
pub struct MqttArgs {
    /// Also publish each line, as --json has it, to the MQTT broker there; without encryption.
    /// While it cannot be reached the newest 1000 are kept
    #[arg(long, value_name = "HOST[:PORT]")]
    pub mqtt: Option<String>,
    /// The topic [default: fieldtune/ and the name of the head file]
    #[arg(long, value_name = "TOPIC", requires = "mqtt")]
    pub mqtt_topic: Option<String>,
    /// The name that the broker knows this program by
    #[arg(long, value_name = "NAME", requires = "mqtt")]
    pub mqtt_user: Option<String>,
    /// A file whose first line is the password
    #[arg(long, value_name = "FILE", requires = "mqtt_user")]
    pub mqtt_password: Option<PathBuf>,
    /// Home Assistant's prefix of topics, where it finds the label and its probability by
    /// itself; or off
    #[arg(
        long,
        value_name = "PREFIX",
        requires = "mqtt",
        default_value = "homeassistant"
    )]
    pub mqtt_discovery: String,
}

impl MqttArgs {
    /// The process that publishes; `None` where no broker is named. Root becomes the owner of
    /// `owned` there.
    ///
    /// # Errors
    /// `Usage` when broker or topic is none, or the program has no MQTT; `BadInput` when the
    /// password cannot be read; `Failed` when it cannot be started.
    pub fn publisher(
        &self,
        (head, file): (&Head, &Path),
        owned: Option<&Path>,
    ) -> Result<Option<Publisher>> {
        let Some(address) = &self.mqtt else {
            return Ok(None);
        };
        let topic = self.mqtt_topic.clone().unwrap_or_else(|| usual_topic(file));
        let mut broker = Broker::new(address, &topic)?;
        if let Some(name) = &self.mqtt_user {
            broker = broker.with_login(name, self.mqtt_password.as_deref())?;
        }
        let discovery = Some(self.mqtt_discovery.clone());
        let setup = Setup {
            broker,
            discovery: discovery.filter(|prefix| prefix != "off"),
            labels: head.labels.clone(),
            owned: owned.map(Path::to_path_buf),
        };
        Publisher::start(once_more(FLAG)?, &setup).map(Some)
    }
}

/// The name of the head file, without what topics keep for themselves.
fn usual_topic(head: &Path) -> String {
    let name = head.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: char| match c {
        '+' | '#' => '_',
        other => other,
    };
    format!("fieldtune/{}", name.chars().map(plain).collect::<String>())
}
