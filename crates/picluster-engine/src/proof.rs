//! Asks a server of the cluster whether it serves, with the check its role declares.

use std::time::Duration;

use picluster_resource::kinds::cluster_server::ClusterServer;
use picluster_resource::{ProbeProgram, Query};
use tokio::time::{Instant, sleep};

use crate::agent;
use crate::error::NodeError;
use crate::session::Message;
use crate::worker::Worker;

/// The pauses between two questions.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(4);

impl Worker {
    /// Asks until it serves, or time is up; then, why it does not.
    pub(crate) async fn prove(
        &mut self,
        server: &ClusterServer,
        patient: bool,
    ) -> Result<Result<(), String>, NodeError> {
        let query = server.proof();
        let program = ProbeProgram::new([Query::Fragment(query.clone())]);
        let bound = self.run.shared.settings.answer_timeout;
        let within = match patient {
            true => Duration::from_secs(u64::from(server.timeout)),
            false => self.run.shared.settings.serve_hiccup,
        };
        let deadline = Instant::now() + within;
        let mut pause = PAUSE;
        loop {
            let message = Message::script(agent::probe(&program.script));
            let frames = self
                .link
                .ask(
                    &self.access,
                    message,
                    bound,
                    "being asked whether it serves",
                )
                .await?;
            let answers = self.link.answers(&program, program.queries(), &frames)?;
            let said = match answers.fragment(&query) {
                Ok((status, text)) => ClusterServer::judge(status, text),
                Err(diagnosis) => Err(diagnosis.what),
            };
            let Err(why) = said else { return Ok(Ok(())) };
            if Instant::now() + pause >= deadline {
                return Ok(Err(format!("for {} s: {why}", within.as_secs())));
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}
