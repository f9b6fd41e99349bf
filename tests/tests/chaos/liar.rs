//! A proxy in front of a broker that makes it look broken to its clients, in one way.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use ottla_tests::client::{FETCH, OFFSET_FETCH, PRODUCE};
use ottla_tests::lies::{self, Lie, Memory};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A stale answer is one to a long poll.
const STALE_WAIT: Duration = Duration::from_millis(50);
const FRAME_BYTES_MAX: usize = 64 << 20;

pub struct Liar {
    pub address: SocketAddr,
    accepts: JoinHandle<()>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

impl Liar {
    pub async fn before(broker: SocketAddr, lie: Lie) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let memory = Arc::new(Mutex::new(Memory::default()));
        let accepts = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, broker, lie, memory.clone()));
            }
        });
        Liar { address, accepts }
    }
}

/// What the broker has been asked on one connection and not answered yet: kind and version.
type Asked = Arc<Mutex<HashMap<i32, (i16, i16)>>>;

async fn serve(client: TcpStream, broker: SocketAddr, lie: Lie, memory: Arc<Mutex<Memory>>) {
    let Ok(broker) = TcpStream::connect(broker).await else {
        return;
    };
    let (from_client, mut to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let (answers, mut answered) = mpsc::channel::<Bytes>(100);
    let asked = Asked::default();
    let requests = pass_requests(from_client, to_broker, answers.clone(), asked.clone(), lie);
    let responses = pass_answers(from_broker, answers, asked, lie, memory);
    let write = async {
        while let Some(frame) = answered.recv().await {
            if write_frame(&mut to_client, &frame).await.is_err() {
                return;
            }
        }
    };
    // The connection ends when either side, or the lie, has had enough.
    tokio::select! {
        _ = requests => {}
        _ = responses => {}
        () = write => {}
    }
}

async fn pass_requests(
    mut client: OwnedReadHalf,
    mut broker: OwnedWriteHalf,
    answers: mpsc::Sender<Bytes>,
    asked: Asked,
    lie: Lie,
) -> Option<()> {
    loop {
        let frame = read_frame(&mut client).await?;
        let key = i16::from_be_bytes(frame.get(..2)?.try_into().ok()?);
        let version = i16::from_be_bytes(frame.get(2..4)?.try_into().ok()?);
        let id = i32::from_be_bytes(frame.get(4..8)?.try_into().ok()?);
        let is_produce = key == ApiKey::Produce as i16 && version == PRODUCE;
        let frame = match lie {
            Lie::AckAtOnce if is_produce => {
                answers
                    .send(lies::acknowledgement(frame.clone(), id)?)
                    .await
                    .ok()?;
                frame
            }
            Lie::ForgetProducers if is_produce => {
                asked
                    .lock()
                    .expect("no holder panics")
                    .insert(id, (key, version));
                lies::without_producers(frame)?
            }
            _ => {
                asked
                    .lock()
                    .expect("no holder panics")
                    .insert(id, (key, version));
                frame
            }
        };
        write_frame(&mut broker, &frame).await.ok()?;
    }
}

async fn pass_answers(
    mut broker: OwnedReadHalf,
    answers: mpsc::Sender<Bytes>,
    asked: Asked,
    lie: Lie,
    memory: Arc<Mutex<Memory>>,
) -> Option<()> {
    loop {
        let frame = read_frame(&mut broker).await?;
        let id = i32::from_be_bytes(frame.get(..4)?.try_into().ok()?);
        let question = asked.lock().expect("no holder panics").remove(&id);
        // The client has had its answer.
        let Some((key, version)) = question else {
            continue;
        };
        let is = |api: ApiKey, at: i16| key == api as i16 && version == at;
        let frame = match lie {
            Lie::StaleReads if is(ApiKey::Fetch, FETCH) => {
                let (frame, is_stale) = lies::as_last_known(frame, &memory)?;
                if is_stale {
                    tokio::time::sleep(STALE_WAIT).await;
                }
                frame
            }
            Lie::ForgetProducers if is(ApiKey::Produce, PRODUCE) => {
                if lies::loses_answer(&memory) {
                    return None;
                }
                frame
            }
            Lie::OldOffsets if is(ApiKey::OffsetFetch, OFFSET_FETCH) => {
                lies::old_offsets(frame, &memory)?
            }
            _ => frame,
        };
        answers.send(frame).await.ok()?;
    }
}

/// A frame without its length.
async fn read_frame(from: &mut OwnedReadHalf) -> Option<Bytes> {
    let length = usize::try_from(from.read_i32().await.ok()?).ok()?;
    let mut frame = BytesMut::zeroed(Some(length).filter(|n| *n <= FRAME_BYTES_MAX)?);
    from.read_exact(&mut frame).await.ok()?;
    Some(frame.freeze())
}

async fn write_frame(to: &mut OwnedWriteHalf, frame: &Bytes) -> std::io::Result<()> {
    let mut whole = BytesMut::with_capacity(frame.len() + 4);
    whole.put_u32(frame.len() as u32);
    whole.extend_from_slice(frame);
    to.write_all(&whole).await
}
