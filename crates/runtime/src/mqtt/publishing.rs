//! The process that publishes: it has the network and reads nothing but the system's settings
//! for it. It tries again for as long as it runs, and keeps the newest messages until then.

use std::collections::VecDeque;
use std::io::{self, BufRead};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::{
    Client, Connection, ConnectionError, Event, Incoming, LastWill, MqttOptions, Outgoing, QoS,
};

use super::Setup;
use crate::beside::purpose;
use crate::error::escaped;
use crate::sandbox::{self, Needs};

/// Most messages that wait for a connection; the oldest are dropped.
const MOST_WAITING: usize = 1000;
/// Requests that the client takes before one has gone out: all that wait, and what is said at
/// each connection.
const MOST_REQUESTS: usize = MOST_WAITING + 16;
/// Largest message, in bytes: a line of `watch` with hundreds of classes.
const MAX_MESSAGE_BYTES: usize = 256 << 10;
/// The broker is asked so often whether it is there, and takes this program for gone half that
/// time after it should have asked.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long the first pause is before the broker is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How long pauses become.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(3);

const ONLINE: &str = "online";
const OFFLINE: &str = "offline";

/// Publishes what standard input says, until it closes.
pub fn publish() {
    let Some(setup) = purpose::<Setup>() else {
        return;
    };
    confine(&setup);
    // A broker drops the older of two with one name, and two boards may publish to one topic.
    let client = format!("{}_{}", setup.id(), getrandom::u32().unwrap_or_default());
    let mut options = MqttOptions::new(client, &setup.broker.host, setup.broker.port);
    options.set_keep_alive(KEEP_ALIVE);
    options.set_max_packet_size(MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES);
    let will = LastWill::new(setup.availability(), OFFLINE, QoS::AtLeastOnce, true);
    options.set_last_will(will);
    if let Some((name, password)) = &setup.broker.login {
        options.set_credentials(name, password);
    }
    let (client, connection) = Client::new(options, MOST_REQUESTS);
    let outlet = Arc::new(Outlet {
        client,
        setup,
        state: Mutex::default(),
    });
    let reader = Arc::clone(&outlet);
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            reader.take(line);
        }
        reader.say_goodbye();
        thread::sleep(GOODBYE);
        std::process::exit(0);
    });
    outlet.stay_connected(connection);
}

/// Keeps this process from files, and from being root. What the system does not hold, the other
/// process has said or `doctor` says.
fn confine(setup: &Setup) {
    if let Some(owned) = &setup.owned {
        let _ = sandbox::become_owner_of(owned);
    }
    // Where a system says how names of hosts are looked up. Not the code for other ways to do
    // it: a static program would load it beside another C library than its own.
    let read = ["/etc", "/run"].map(Path::new);
    let _ = sandbox::confine(Needs {
        read: &read,
        network: true,
        ..Needs::default()
    });
}

#[derive(Default)]
struct State {
    connected: bool,
    waiting: VecDeque<String>,
}

/// Where messages go out.
struct Outlet {
    client: Client,
    setup: Setup,
    state: Mutex<State>,
}

impl Outlet {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message from standard input.
    fn take(&self, line: String) {
        let mut state = self.state();
        if state.waiting.len() >= MOST_WAITING {
            state.waiting.pop_front();
        }
        state.waiting.push_back(line);
        self.send(&mut state);
    }

    /// Hands over what waits, if there is a connection and as far as there is room.
    fn send(&self, state: &mut State) {
        let topic = &self.setup.broker.topic;
        while state.connected {
            let Some(line) = state.waiting.front() else {
                return;
            };
            if !self.put(topic, line) {
                return;
            }
            state.waiting.pop_front();
        }
    }

    /// All are retained: who asks later gets the newest at once.
    fn put(&self, topic: &str, message: &str) -> bool {
        let sent = self
            .client
            .try_publish(topic, QoS::AtLeastOnce, true, message);
        sent.is_ok()
    }

    fn say_goodbye(&self) {
        let state = self.state();
        if state.connected {
            self.put(&self.setup.availability(), OFFLINE);
            let _ = self.client.try_disconnect();
        } else {
            std::process::exit(0);
        }
    }

    /// Runs until the goodbye has gone out.
    fn stay_connected(&self, mut connection: Connection) {
        let mut pause = FIRST_PAUSE;
        let mut told = String::new();
        let (mut since, mut leaving) = (Instant::now(), false);
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                    since = Instant::now();
                    if !std::mem::take(&mut told).is_empty() {
                        self.note("connected");
                    }
                    self.begin();
                }
                Ok(Event::Incoming(Incoming::PubAck(_))) => self.send(&mut self.state()),
                // It goes out with the next event: the broker closes the connection then.
                Ok(Event::Outgoing(Outgoing::Disconnect)) => leaving = true,
                Ok(_) => {}
                Err(_) if leaving => return,
                Err(error) => {
                    let was_connected = std::mem::take(&mut self.state().connected);
                    if was_connected && since.elapsed() > LONGEST_PAUSE {
                        pause = FIRST_PAUSE;
                    }
                    let reason = reason(&error);
                    // Once, however often it is tried.
                    if reason != told {
                        self.note(&format!("{reason}; it is tried again"));
                        told = reason;
                    }
                    thread::sleep(pause);
                    pause = LONGEST_PAUSE.min(2 * pause);
                }
            }
        }
    }

    /// What is said at each connection: a broker may have forgotten all of it.
    fn begin(&self) {
        let mut state = self.state();
        for (topic, document) in self.setup.announcements() {
            self.put(&topic, &document.to_string());
        }
        self.put(&self.setup.availability(), ONLINE);
        state.connected = true;
        self.send(&mut state);
    }

    fn note(&self, what: &str) {
        let broker = &self.setup.broker;
        let line = format!("MQTT broker {}:{}: {what}", broker.host, broker.port);
        eprintln!("fieldtune: {}", escaped(&line));
    }
}

fn reason(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => {
            format!("refuses ({code:?}); check --mqtt-user and --mqtt-password")
        }
        ConnectionError::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
