//! TLS, passwords, certificates of clients, AWS's signatures; and a node that takes over for another.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ottla_tests::broker::{Broker, free_address};
use ottla_tests::within;

use crate::opensearch::{OpenSearch, installed};
use crate::search::{NOON_MS, connector, topic};
use crate::seaweed::run;
use crate::worker::Worker;

const GATE: &str = include_str!("../../opensearch/gate.py");
const WAIT: Duration = Duration::from_secs(60);

/// A certificate for 127.0.0.1 that is its own authority, and its key.
fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (
        folder.join(format!("{name}.pem")),
        folder.join(format!("{name}.key")),
    );
    let (to, key_to) = (certificate.display().to_string(), key.display().to_string());
    let subject = format!("/CN={name}");
    run(
        Path::new("openssl"),
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-out",
            &to,
            "-keyout",
            &key_to,
        ],
    );
    (certificate, key)
}

/// A gate before the server, ended with the test.
struct Gate {
    child: Child,
    url: String,
}

impl Gate {
    fn start(folder: &Path, search: &OpenSearch, authority: &str, asks: &[(&str, &str)]) -> Gate {
        let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
        let address = free_address();
        std::fs::write(folder.join("gate.py"), GATE).expect("a file");
        let child = Command::new("python3")
            .arg(folder.join("gate.py"))
            .args([address.port(), search.address.port()].map(|p| p.to_string()))
            .args([certificate, key])
            .arg(authority)
            .envs(asks.iter().copied())
            .stdin(Stdio::null())
            .spawn();
        Gate {
            child: child.expect("python3 starts"),
            url: format!("https://{address}"),
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_passwords_signatures_and_another_node() {
    installed();
    within(240, "secure connections", async {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (server, _) = certificate(folder.path(), "server");
        let (client, client_key) = certificate(folder.path(), "client");
        let both = folder.path().join("both.pem");
        let text = |path: &Path| std::fs::read_to_string(path).expect("a file");
        std::fs::write(&both, text(&client) + &text(&client_key)).expect("a file");
        let broker = Broker::start().await;
        let search = OpenSearch::start();
        let values = [(Some("k"), Some(r#"{"n":1}"#), NOON_MS)];
        for name in ["basic", "mutual", "signed", "wrong", "stranger"] {
            topic(broker.address, name, &values).await;
        }
        let password = [("USER", "ottla"), ("PASSWORD", "p@ss word")];
        let aws = [("REGION", "eu-central-1"), ("ACCESS_KEY", "AKIDEXAMPLE"), ("SECRET_KEY", "wJalr/Key+x")];
        let authority = client.display().to_string();
        let basic = Gate::start(folder.path(), &search, "", &password);
        let mutual = Gate::start(folder.path(), &search, &authority, &password);
        let signed = Gate::start(folder.path(), &search, "", &aws);
        let trust = format!("connection.ssl.truststore.location={}\n", server.display());
        let user = "connection.username=ottla\nconnection.password=p@ss word\n";
        let identity = format!("connection.ssl.keystore.location={}\n", both.display());
        // The first node is not there.
        let nodes = format!("http://127.0.0.1:{},{}", free_address().port(), basic.url);
        let keys = "aws.region=eu-central-1\naws.access_key_id=AKIDEXAMPLE\naws.secret_access_key=wJalr/Key+x\n";
        let wrong = "connection.username=ottla\nconnection.password=other\n";
        let connectors = [
            connector("basic", "basic", &nodes, &format!("{trust}{user}connection.compression=true\n")),
            connector("mutual", "mutual", &mutual.url, &format!("{trust}{user}{identity}")),
            connector("signed", "signed", &signed.url, &format!("{trust}{keys}")),
            connector("wrong", "wrong", &basic.url, &format!("{trust}{wrong}")),
            connector("stranger", "stranger", &basic.url, user),
        ];
        let mut worker = Worker::prepare(broker.address, &[], &connectors);
        worker.start();
        for name in ["basic", "mutual", "signed"] {
            search.wait_for(name, 1, WAIT).await;
        }
        let began = std::time::Instant::now();
        // A wrong password fails the task; a server that may be another is never written to.
        while !worker.log().contains("task wrong-0 failed: index wrong: status 401")
            || !worker.log().contains("certificate verify failed")
        {
            assert!(began.elapsed() < WAIT, "{}", worker.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(search.count("wrong") + search.count("stranger"), 0);
        assert_eq!(worker.stop(), 0, "{}", worker.log());
        let log = worker.log();
        for secret in ["p@ss word", "wJalr/Key+x"] {
            assert!(!log.contains(secret), "a secret is in the log");
        }
    })
    .await;
}
