//! What launchers say to the processes that they start: torchrun, Open MPI's mpirun, Slurm's srun.
use super::error::RanksError;
use std::path::PathBuf;
use std::time::Duration;

/// How long ranks wait for each other at the start, and how long one may say nothing, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(120);
/// The variable that tells otherwise, in seconds.
pub const PATIENCE_VARIABLE: &str = "RLVR_RANKS_TIMEOUT";
/// The variable that tells runs apart where a launcher does not.
pub const RUN_VARIABLE: &str = "RLVR_RUN_ID";

/// The variable that lets ranks of mpirun talk over sockets in a build with MPI: `tcp`.
pub const TRANSPORT_VARIABLE: &str = "RLVR_TRANSPORT";

/// Where ranks find each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meeting {
    /// Rank 0 listens there.
    Address {
        /// A name or an address by which every rank reaches rank 0.
        host: String,
        /// The port.
        port: u16,
    },
    /// All ranks are processes of one machine; rank 0 listens on a port of its choice and leaves it in this file.
    File(PathBuf),
}

/// Which rank of how many this process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Counted from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// How many of them are processes of this machine.
    pub local: usize,
    /// Where they find each other.
    pub meeting: Meeting,
    /// Whether Open MPI has started them, and they may talk by it.
    pub by_mpi: bool,
    /// The same for all ranks of a run, another one for other runs.
    pub run: String,
    /// How long a rank may be away or silent.
    pub patience: Duration,
}

/// A variable of the environment.
type Var<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Launch {
    /// What the environment says; none where nobody has started several ranks.
    ///
    /// # Errors
    /// [`RanksError::Setup`]: variables that do not fit together.
    pub fn from_env() -> Result<Option<Self>, RanksError> {
        Self::from_variables(&|name| std::env::var(name).ok())
    }

    /// The same for given variables.
    ///
    /// # Errors
    /// As [`Self::from_env`].
    pub fn from_variables(var: Var<'_>) -> Result<Option<Self>, RanksError> {
        let launch = if let (Some(_), Some(_)) = (var("RANK"), var("WORLD_SIZE")) {
            torchrun(var)?
        } else if var("OMPI_COMM_WORLD_RANK").is_some() {
            open_mpi(var)?
        } else if var("SLURM_PROCID").is_some() && var("SLURM_STEP_ID").is_some() {
            // A batch script has the first of them, too, and is one process.
            slurm(var)?
        } else {
            return Ok(None);
        };
        if launch.rank >= launch.size {
            return Err(setup(format!("rank {} of {}: ranks count from 0", launch.rank, launch.size)));
        }
        Ok((launch.size > 1).then_some(launch))
    }
}

fn setup(what: String) -> RanksError {
    RanksError::Setup { what }
}

fn number<T: std::str::FromStr>(var: Var<'_>, name: &str) -> Result<Option<T>, RanksError> {
    let Some(text) = var(name) else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| setup(format!("{name} is {text:?}, which is no such number")))
}

fn required(var: Var<'_>, name: &str) -> Result<usize, RanksError> {
    number(var, name)?.ok_or_else(|| setup(format!("{name} is not set, which ranks of a launcher have")))
}

fn patience(var: Var<'_>) -> Result<Duration, RanksError> {
    Ok(number::<u32>(var, PATIENCE_VARIABLE)?
        .map_or(PATIENCE, |seconds| Duration::from_secs(u64::from(seconds.max(1)))))
}

fn run(var: Var<'_>, own: Option<String>) -> String {
    var(RUN_VARIABLE).or(own).unwrap_or_default()
}

/// `MASTER_ADDR` and `MASTER_PORT`.
fn address(var: Var<'_>) -> Result<Option<Meeting>, RanksError> {
    match (var("MASTER_ADDR"), number::<u16>(var, "MASTER_PORT")?) {
        (Some(host), Some(port)) => Ok(Some(Meeting::Address { host, port })),
        _ => Ok(None),
    }
}

fn torchrun(var: Var<'_>) -> Result<Launch, RanksError> {
    let size = required(var, "WORLD_SIZE")?;
    let mut meeting = match (size, address(var)?) {
        (_, Some(meeting)) => meeting,
        (0 | 1, None) => Meeting::Address { host: String::new(), port: 0 },
        (_, None) => {
            return Err(setup(format!(
                "WORLD_SIZE is {size}, and MASTER_ADDR or MASTER_PORT is not set: they say where rank 0 is found, as in \
                 MASTER_ADDR=127.0.0.1 MASTER_PORT=29500"
            )));
        }
    };
    // torchrun itself listens on the port that it names.
    if let (Meeting::Address { port, .. }, Some("True")) =
        (&mut meeting, var("TORCHELASTIC_USE_AGENT_STORE").as_deref())
    {
        *port = port.checked_add(1).unwrap_or(*port - 1);
    }
    Ok(Launch {
        rank: required(var, "RANK")?,
        size,
        local: number(var, "LOCAL_WORLD_SIZE")?.unwrap_or(1),
        meeting,
        by_mpi: false,
        run: run(var, var("TORCHELASTIC_RUN_ID")),
        patience: patience(var)?,
    })
}

fn open_mpi(var: Var<'_>) -> Result<Launch, RanksError> {
    let size = required(var, "OMPI_COMM_WORLD_SIZE")?;
    let local = number(var, "OMPI_COMM_WORLD_LOCAL_SIZE")?.unwrap_or(1);
    // Whoever started all ranks of a machine is the same process.
    let job = var("PMIX_NAMESPACE").or_else(|| var("OMPI_MCA_ess_base_jobid")).unwrap_or_else(parent);
    let meeting = match address(var)? {
        Some(meeting) => meeting,
        None if local == size => Meeting::File(file(&job)),
        None => {
            return Err(setup(format!(
                "mpirun has started {size} ranks, {local} of them here: say where rank 0 is found, as in \
                 mpirun -x MASTER_ADDR=first-host -x MASTER_PORT=29500"
            )));
        }
    };
    let rank = required(var, "OMPI_COMM_WORLD_RANK")?;
    Ok(Launch {
        rank,
        size,
        local,
        meeting,
        by_mpi: var(TRANSPORT_VARIABLE).as_deref() != Some("tcp"),
        run: run(var, Some(job)),
        patience: patience(var)?,
    })
}

fn slurm(var: Var<'_>) -> Result<Launch, RanksError> {
    let size = match number(var, "SLURM_STEP_NUM_TASKS")? {
        Some(size) => size,
        None => required(var, "SLURM_NTASKS")?,
    };
    let job = number::<u64>(var, "SLURM_JOB_ID")?.unwrap_or(0);
    let nodes = ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"];
    let host = var("MASTER_ADDR").or_else(|| first_host(&nodes.into_iter().find_map(var)?));
    let Some(host) = host else {
        return Err(setup(
            "SLURM_STEP_NODELIST and MASTER_ADDR are not set: they say where rank 0 is found".into(),
        ));
    };
    // Jobs that share a node get different ones.
    let port = number(var, "MASTER_PORT")?.unwrap_or(20_000 + (job % 20_000) as u16);
    // As in "4(x2),3": of the first node, and at least of one of them.
    let tasks = var("SLURM_STEP_TASKS_PER_NODE").or_else(|| var("SLURM_TASKS_PER_NODE")).unwrap_or_default();
    let digits: String = tasks.chars().take_while(char::is_ascii_digit).collect();
    Ok(Launch {
        rank: required(var, "SLURM_PROCID")?,
        size,
        local: digits.parse().unwrap_or(1),
        meeting: Meeting::Address { host, port },
        by_mpi: false,
        run: run(var, Some(format!("{job}.{}", var("SLURM_STEP_ID").unwrap_or_default()))),
        patience: patience(var)?,
    })
}

/// The first host of a list such as `node[03-05,7],other`.
fn first_host(list: &str) -> Option<String> {
    let Some((name, rest)) = list.split_once('[').filter(|(name, _)| !name.contains(',')) else {
        return list.split(',').next().filter(|host| !host.is_empty()).map(str::to_owned);
    };
    let (numbers, behind) = rest.split_once(']')?;
    let first = numbers.split([',', '-']).next()?;
    let behind = behind.split(',').next().unwrap_or_default();
    Some(format!("{name}{first}{behind}"))
}

#[cfg(unix)]
fn parent() -> String {
    std::os::unix::process::parent_id().to_string()
}

#[cfg(not(unix))]
fn parent() -> String {
    String::new()
}

/// Where rank 0 of a job leaves its port for ranks of the same machine.
fn file(job: &str) -> PathBuf {
    let name: String = job.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    std::env::temp_dir().join(format!("rlvr-ranks-{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(set: &[(&str, &str)]) -> Result<Option<Launch>, RanksError> {
        let var = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Launch::from_variables(&var)
    }

    fn found(set: &[(&str, &str)]) -> (usize, usize, usize, Meeting, String) {
        let launch = launch(set).unwrap().unwrap();
        (launch.rank, launch.size, launch.local, launch.meeting, launch.run)
    }

    fn at(host: &str, port: u16) -> Meeting {
        Meeting::Address { host: host.into(), port }
    }

    #[test]
    fn every_launcher_is_understood() {
        let torchrun = [
            ("RANK", "1"),
            ("WORLD_SIZE", "4"),
            ("LOCAL_WORLD_SIZE", "2"),
            ("MASTER_ADDR", "first"),
            ("MASTER_PORT", "29500"),
            ("TORCHELASTIC_RUN_ID", "seven"),
        ];
        assert_eq!(found(&torchrun), (1, 4, 2, at("first", 29500), "seven".into()));
        // The process of torchrun itself has the port that it names.
        let agent = [&torchrun[..], &[("TORCHELASTIC_USE_AGENT_STORE", "True")]].concat();
        assert_eq!(found(&agent).3, at("first", 29501));

        let slurm = [
            ("SLURM_PROCID", "3"),
            ("SLURM_NTASKS", "8"),
            ("SLURM_STEP_ID", "0"),
            ("SLURM_JOB_ID", "41234"),
            ("SLURM_STEP_NODELIST", "gpu[07-08]"),
            ("SLURM_STEP_TASKS_PER_NODE", "4(x2)"),
        ];
        assert_eq!(found(&slurm), (3, 8, 4, at("gpu07", 21_234), "41234.0".into()));
        // A batch script is one process.
        assert_eq!(launch(&slurm[..2]), Ok(None));

        let mpirun = [
            ("OMPI_COMM_WORLD_RANK", "0"),
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
            ("PMIX_NAMESPACE", "prterun-host-17@1"),
            ("SLURM_PROCID", "0"),
            ("SLURM_STEP_ID", "0"),
        ];
        let file = std::env::temp_dir().join("rlvr-ranks-prterun-host-17-1");
        assert_eq!(found(&mpirun), (0, 2, 2, Meeting::File(file), "prterun-host-17@1".into()));
        let named = [&mpirun[..2], &[("MASTER_ADDR", "a"), ("MASTER_PORT", "9")]].concat();
        assert_eq!(found(&named).3, at("a", 9));
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let error = |set: &[(&str, &str)]| launch(set).unwrap_err().to_string();
        assert!(error(&[("RANK", "0"), ("WORLD_SIZE", "2")]).contains("MASTER_ADDR"));
        assert!(error(&[("RANK", "x"), ("WORLD_SIZE", "1")]).contains("RANK is \"x\""));
        let outside = [("RANK", "2"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "a"), ("MASTER_PORT", "1")];
        assert!(error(&outside).contains("rank 2 of 2"));
        let apart = [("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "4")];
        assert!(error(&apart).contains("-x MASTER_ADDR"));
        // One rank needs nothing, and neither does a shell with half of it.
        assert_eq!(launch(&[("RANK", "0"), ("WORLD_SIZE", "1")]), Ok(None));
        assert_eq!(launch(&[("WORLD_SIZE", "4")]), Ok(None));
        assert_eq!(launch(&[]), Ok(None));
    }

    #[test]
    fn lists_of_hosts_begin_with_the_first() {
        for (list, first) in [
            ("a,b", "a"),
            ("node[03-05,7],b", "node03"),
            ("node[9]", "node9"),
            ("a,node[1-2]", "a"),
            ("n[1-2].x,b", "n1.x"),
        ] {
            assert_eq!(first_host(list).as_deref(), Some(first), "{list}");
        }
        assert_eq!(first_host(""), None);
    }
}
