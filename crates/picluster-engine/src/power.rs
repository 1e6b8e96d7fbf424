//! Switches a node off, and sees that it is.

use picluster_plan::Step;
use picluster_resource::Operation;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::NodeError;
use crate::host::ConnectError;
use crate::report::{Failure, Outcome};
use crate::scheduler::After;
use crate::worker::{StepEnd, Told, Worker};

/// PID 1 does it once this script is gone. Inhibitors that merely delay it, such as the kubelet's for a graceful
/// shutdown of its pods, are waited for (systemctl(1), systemd-inhibit(1)).
const POWER_OFF: &str = "sync\nsystemctl --no-block poweroff || shutdown -h now\n";

/// So often in a row nobody must answer: a single frame that is lost is no proof.
const SILENT: u32 = 2;

impl Worker {
    pub(crate) async fn power_off_step(&mut self, step: &Step) -> Result<StepEnd, NodeError> {
        self.peek = None;
        let boot = self.link.boot_id();
        let sent = self
            .operate("", Operation::script(POWER_OFF), "", "", None)
            .await;
        match sent {
            Ok((frame, _)) if frame.status != 0 => {
                return Ok(StepEnd::failed(Failure {
                    command: Some(POWER_OFF.into()),
                    status: Some(frame.status),
                    output: frame.text(),
                    ..Failure::new("the node refused to switch itself off")
                }));
            }
            // The session going down with the node is an answer too.
            Ok(_) | Err(NodeError::Lost { .. }) => {}
            Err(other) => return Err(other),
        }
        self.tell(Told::PoweringOff);
        let clock = std::sync::Arc::clone(&self.run.shared.settings.clock);
        let told = clock.elapsed();
        self.link.drop_connection().await;
        let end = match self.wait_for_silence(&boot).await {
            Ok(()) => {
                self.tell(Told::Off {
                    seconds: clock.elapsed().saturating_sub(told).as_secs_f64(),
                });
                StepEnd::new(Outcome::Changed)
            }
            Err(what) => StepEnd::failed(Failure {
                cure: Some("look at its console, or run the same command again".into()),
                ..Failure::new(what)
            }),
        };
        Ok(StepEnd {
            change: Some(step.change.clone()),
            ..end.after(After::Away)
        })
    }

    /// Dials until nobody answers. A port that is closed is none: then the kernel is still there and says so.
    async fn wait_for_silence(&mut self, boot: &str) -> Result<(), String> {
        let settings = &self.run.shared.settings;
        let deadline = Instant::now() + settings.power_off_timeout;
        let (mut pause, most) = (settings.reboot_poll, settings.reboot_poll_max);
        let seconds = settings.power_off_timeout.as_secs();
        let mut silent = 0;
        let mut last = "it goes on answering".to_owned();
        loop {
            let late = format!("it was told to switch itself off, and after {seconds} s {last}");
            if timeout_at(deadline, sleep(pause)).await.is_err() {
                return Err(late);
            }
            pause = (pause * 2).min(most);
            let Ok(facts) = timeout_at(deadline, self.link.fresh_facts(false)).await else {
                return Err(late);
            };
            self.link.drop_connection().await;
            match facts {
                Ok(facts) if facts.now.boot_id != boot => {
                    return Err("it was told to switch itself off, and has started again".into());
                }
                Err(NodeError::Connect(ConnectError::Unreachable { reason, .. }))
                    if !reason.to_lowercase().contains("refused") =>
                {
                    silent += 1;
                    if silent >= SILENT {
                        return Ok(());
                    }
                    last = "it answers now and then".into();
                    pause = settings.reboot_poll;
                }
                Err(NodeError::Connect(ConnectError::Unreachable { .. })) => {
                    silent = 0;
                    last = "sshd is gone, but its kernel still answers".into();
                }
                _ => {
                    silent = 0;
                    last = "it goes on answering".into();
                }
            }
        }
    }
}
