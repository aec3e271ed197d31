//! How ranks find each other: rank 0 listens, the others come and say who they are, and are told where to find each other.
//! Once all are connected nobody listens any more.
use crate::parallel::error::RanksError;
use crate::parallel::launch::{Launch, Meeting, PATIENCE_VARIABLE};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

/// What a connection of ours begins with.
const MAGIC: &str = "rlvr-ranks-1";
/// Longest greeting, in bytes: addresses of all ranks.
const LONGEST: u32 = 1 << 20;
/// How long a connection may take to say who it is.
const GREETING: Duration = Duration::from_secs(2);
/// How often is looked for others.
const AGAIN: Duration = Duration::from_millis(20);

/// Who comes, and to which run.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Hello {
    magic: String,
    version: String,
    little_endian: bool,
    run: String,
    rank: usize,
    size: usize,
    /// Where this rank listens for those of higher numbers.
    port: u16,
}

/// What rank 0 says to that.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// Where every rank listens.
    Peers(Vec<Option<SocketAddr>>),
    /// Another rank connects to a rank that is not 0: it is there.
    Here,
    /// Why it cannot take part.
    Refused(String),
    /// Why nobody can; rank 0 says so itself.
    Over(String),
}

/// What rank 0 leaves for ranks of the same machine.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    port: u16,
    /// Told by every rank that comes, so that no other program does.
    secret: String,
}

/// Time that is left until all must be there.
#[derive(Debug, Clone, Copy)]
struct Deadline(Instant);

impl Deadline {
    fn left(self) -> Option<Duration> {
        self.0.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

/// Connections to all other ranks, by rank.
///
/// # Errors
/// [`RanksError::Meeting`]: who did not come in time, or does not belong here.
pub fn meet(launch: &Launch) -> Result<Vec<Option<TcpStream>>, RanksError> {
    let deadline = Deadline(Instant::now() + launch.patience);
    match launch.rank {
        0 => lead(launch, deadline),
        _ => follow(launch, deadline),
    }
}

fn meeting(what: String) -> RanksError {
    RanksError::Meeting { what }
}

impl Hello {
    fn of(launch: &Launch, run: &str, port: u16) -> Self {
        Self {
            magic: MAGIC.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            little_endian: cfg!(target_endian = "little"),
            run: run.to_owned(),
            rank: launch.rank,
            size: launch.size,
            port,
        }
    }

    /// Why whoever says this is no rank of ours, if so.
    fn problem(&self, own: &Self) -> Option<String> {
        if self.version != own.version || self.little_endian != own.little_endian {
            return Some(format!(
                "rank {} is rlvr {}, rank {} rlvr {}: all ranks must be the same program",
                self.rank, self.version, own.rank, own.version
            ));
        }
        if self.size != own.size || self.rank >= own.size {
            return Some(format!(
                "rank {} says that there are {} ranks, rank {} that there are {}: start them together",
                self.rank, self.size, own.rank, own.size
            ));
        }
        None
    }
}

fn lead(launch: &Launch, deadline: Deadline) -> Result<Vec<Option<TcpStream>>, RanksError> {
    let (listener, note, run) = listen(launch)?;
    let met = gather(launch, &listener, &run, deadline, 1);
    if let Some(path) = note {
        let _ = fs::remove_file(path);
    }
    let met = met?;
    let mut peers = vec![None; launch.size];
    for (rank, (stream, hello)) in met.iter().enumerate().filter_map(|(r, m)| Some((r, m.as_ref()?))) {
        let from = stream.peer_addr().map_err(|e| meeting(format!("rank {rank} is gone already: {e}")))?;
        peers[rank] = Some(SocketAddr::new(from.ip(), hello.port));
    }
    let mut streams = Vec::new();
    for (rank, met) in met.into_iter().enumerate() {
        let Some((mut stream, _)) = met else {
            streams.push(None);
            continue;
        };
        say(&mut stream, &Answer::Peers(peers.clone()))
            .map_err(|e| meeting(format!("rank {rank} is gone already: {e}")))?;
        streams.push(Some(stream));
    }
    Ok(streams)
}

fn follow(launch: &Launch, deadline: Deadline) -> Result<Vec<Option<TcpStream>>, RanksError> {
    let (mut first, run) = reach_first(launch, deadline)?;
    let here = first.local_addr().map_err(|e| meeting(format!("no address of this machine: {e}")))?.ip();
    let listener = TcpListener::bind((here, 0))
        .map_err(|e| meeting(format!("cannot listen on {here} for the other ranks: {e}")))?;
    let port = listener.local_addr().map_err(|e| meeting(e.to_string()))?.port();
    let own = Hello::of(launch, &run, port);
    let lost = |e: io::Error| meeting(format!("rank 0 did not say who takes part: {e}"));
    say(&mut first, &own).map_err(lost)?;
    // Until all are there, which rank 0 waits for as long.
    first.set_read_timeout(Some(launch.patience + GREETING)).map_err(lost)?;
    let peers = match hear::<Answer>(&mut first) {
        Ok(Answer::Peers(peers)) => peers,
        Ok(Answer::Refused(why)) => return Err(meeting(why)),
        Ok(Answer::Over(what)) => return Err(RanksError::Told { rank: 0, code: 1, what }),
        Ok(Answer::Here) => return Err(meeting("rank 0 is none: check MASTER_ADDR and MASTER_PORT".into())),
        Err(e) => return Err(lost(e)),
    };
    let mut streams: Vec<Option<TcpStream>> = (0..launch.size).map(|_| None).collect();
    streams[0] = Some(first);
    for (rank, address) in peers.into_iter().enumerate().take(launch.rank) {
        let Some(address) = address else { continue };
        let gone = |e: io::Error| meeting(format!("rank {rank} cannot be reached at {address}: {e}"));
        let mut stream = connect(address, deadline).map_err(gone)?;
        say(&mut stream, &own).map_err(gone)?;
        match hear::<Answer>(&mut stream).map_err(gone)? {
            Answer::Here => streams[rank] = Some(stream),
            Answer::Refused(why) | Answer::Over(why) => return Err(meeting(why)),
            Answer::Peers(_) => return Err(meeting(format!("who answers at {address} is not rank {rank}"))),
        }
    }
    let above = gather(launch, &listener, &run, deadline, launch.rank + 1)?;
    for (rank, met) in above.into_iter().enumerate() {
        if let Some((mut stream, _)) = met {
            say(&mut stream, &Answer::Here)
                .map_err(|e| meeting(format!("rank {rank} is gone already: {e}")))?;
            streams[rank] = Some(stream);
        }
    }
    Ok(streams)
}

/// Ranks that have said who they are, by rank.
type Met = Vec<Option<(TcpStream, Hello)>>;

/// Waits for all ranks from `first` on.
fn gather(
    launch: &Launch,
    listener: &TcpListener,
    run: &str,
    deadline: Deadline,
    first: usize,
) -> Result<Met, RanksError> {
    let own = Hello::of(launch, run, 0);
    let (mut met, mut others): (Met, _) = ((0..launch.size).map(|_| None).collect(), None);
    listener.set_nonblocking(true).map_err(|e| meeting(format!("cannot wait for the other ranks: {e}")))?;
    while let Some(absent) = (first..launch.size).find(|r| met[*r].is_none()) {
        if deadline.left().is_none() {
            let other = others.map_or(String::new(), |other| format!(" ({other})"));
            return Err(over(
                met,
                format!(
                    "rank {absent} of {} did not come within {} s{other}: is it running, and can it reach this machine? \
                     {PATIENCE_VARIABLE} is how long is waited, in seconds",
                    launch.size,
                    launch.patience.as_secs()
                ),
            ));
        }
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(AGAIN);
            continue;
        };
        // Whoever says something else is not one of us, and is not answered.
        let Ok(hello) = greeted(&mut stream) else { continue };
        if hello.run != own.run {
            let what = format!(
                "a rank of another run came: its id is {:?}, this one's {:?}",
                shown(&hello.run),
                shown(&own.run)
            );
            let _ = say(&mut stream, &Answer::Refused(format!("rank {} there: {what}", launch.rank)));
            others = Some(what);
            continue;
        }
        let twice = || format!("two processes say that they are rank {}", hello.rank);
        let taken = hello.rank < first || met.get(hello.rank).is_some_and(Option::is_some);
        if let Some(what) = hello.problem(&own).or_else(|| taken.then(twice)) {
            let _ = say(&mut stream, &Answer::Over(what.clone()));
            return Err(over(met, what));
        }
        let rank = hello.rank;
        met[rank] = Some((stream, hello));
    }
    Ok(met)
}

/// Tells those who have come that nothing comes of it.
fn over(met: Met, what: String) -> RanksError {
    for (mut stream, _) in met.into_iter().flatten() {
        let _ = say(&mut stream, &Answer::Over(what.clone()));
    }
    meeting(what)
}

/// The id of a run without the secret behind it.
fn shown(run: &str) -> &str {
    run.split('\n').next().unwrap_or_default()
}

fn greeted(stream: &mut TcpStream) -> io::Result<Hello> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(GREETING))?;
    let hello: Hello = hear(stream)?;
    match hello.magic == MAGIC {
        true => Ok(hello),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn say<T: Serialize>(stream: &mut TcpStream, what: &T) -> io::Result<()> {
    stream.set_write_timeout(Some(GREETING))?;
    let text = serde_json::to_vec(what)?;
    let length = (text.len() as u32).to_le_bytes();
    stream.write_all(&[&length[..], &text].concat())
}

fn hear<T: for<'de> Deserialize<'de>>(stream: &mut TcpStream) -> io::Result<T> {
    let mut length = [0u8; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; length as usize];
    stream.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Where rank 0 waits; the file that says so, if that is how it is found; and the id of the run with what only its ranks know.
fn listen(launch: &Launch) -> Result<(TcpListener, Option<&Path>, String), RanksError> {
    match &launch.meeting {
        Meeting::Address { host, port } => {
            let no = |e: io::Error| {
                meeting(format!(
                    "rank 0 cannot listen on {host}:{port}: {e}; another program may have that port, choose another MASTER_PORT"
                ))
            };
            let found: Vec<SocketAddr> = (host.as_str(), *port).to_socket_addrs().map_err(no)?.collect();
            let name_of_this_machine = host.parse::<IpAddr>().is_err() && host != "localhost";
            // The name of a machine is often its loopback there, and the address of a service is none of its own.
            let all = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), *port);
            let loopback = found.iter().all(|a| a.ip().is_loopback());
            let listener = match found.first() {
                Some(_) if name_of_this_machine && loopback => TcpListener::bind(all),
                Some(_) => TcpListener::bind(&found[..]).or_else(|e| match e.kind() {
                    io::ErrorKind::AddrNotAvailable => TcpListener::bind(all),
                    _ => Err(e),
                }),
                None => Err(io::ErrorKind::NotFound.into()),
            };
            Ok((listener.map_err(no)?, None, launch.run.clone()))
        }
        Meeting::File(path) => {
            let no =
                |e: io::Error| meeting(format!("rank 0 cannot leave its port in {}: {e}", path.display()));
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(no)?;
            let port = listener.local_addr().map_err(no)?.port();
            let mut random = [0u8; 16];
            fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut random)).map_err(no)?;
            let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            let run = format!("{}\n{secret}", launch.run);
            let text = serde_json::to_vec(&Note { port, secret }).map_err(|e| no(e.into()))?;
            // Readable by this user only, and whole or not there.
            let folder = path.parent().unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(folder).map_err(no)?;
            file.write_all(&text).map_err(no)?;
            file.persist(path).map_err(|e| no(e.error))?;
            Ok((listener, Some(path), run))
        }
    }
}

/// A connection to rank 0, which may come later, and the id of the run.
fn reach_first(launch: &Launch, deadline: Deadline) -> Result<(TcpStream, String), RanksError> {
    let mut last = String::new();
    while deadline.left().is_some() {
        let tried = match &launch.meeting {
            Meeting::Address { host, port } => first_address(host, *port)
                .and_then(|address| Ok((connect_once(address, deadline)?, launch.run.clone()))),
            Meeting::File(path) => note(path).and_then(|note| {
                let stream = connect_once(SocketAddr::from((Ipv4Addr::LOCALHOST, note.port)), deadline)?;
                Ok((stream, format!("{}\n{}", launch.run, note.secret)))
            }),
        };
        match tried {
            Ok(reached) => return Ok(reached),
            Err(e) => last = e.to_string(),
        }
        std::thread::sleep(AGAIN);
    }
    let place = match &launch.meeting {
        Meeting::Address { host, port } => format!("{host}:{port}"),
        Meeting::File(path) => path.display().to_string(),
    };
    Err(meeting(format!(
        "rank {} of {} did not find rank 0 at {place} within {} s ({last}): is it running? {PATIENCE_VARIABLE} is how long is \
         waited, in seconds",
        launch.rank,
        launch.size,
        launch.patience.as_secs()
    )))
}

fn first_address(host: &str, port: u16) -> io::Result<SocketAddr> {
    (host, port).to_socket_addrs()?.next().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// What rank 0 has left in a file of this user.
fn note(path: &Path) -> io::Result<Note> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let found = fs::symlink_metadata(path)?;
        if !found.is_file() || found.uid() != rustix::process::getuid().as_raw() || found.len() > 4096 {
            return Err(io::Error::other(format!("{} is no file of this user", path.display())));
        }
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn connect_once(address: SocketAddr, deadline: Deadline) -> io::Result<TcpStream> {
    let left = deadline.left().ok_or(io::ErrorKind::TimedOut)?;
    let stream = TcpStream::connect_timeout(&address, left)?;
    stream.set_read_timeout(Some(left))?;
    Ok(stream)
}

fn connect(address: SocketAddr, deadline: Deadline) -> io::Result<TcpStream> {
    loop {
        match connect_once(address, deadline) {
            Ok(stream) => return Ok(stream),
            Err(e) if deadline.left().is_none() => return Err(e),
            Err(_) => std::thread::sleep(AGAIN),
        }
    }
}
