//! The narrow handles that API handlers work with.

use std::sync::Arc;

use ottla_controller::Controller;
use ottla_wire::guard::GuardLimits;
use tokio::sync::watch;

use crate::controllers::Controllers;
use crate::coordinator::Coordinators;
use crate::metadata::Metadata;
use crate::newest::Newest;
use crate::producer_ids::ProducerIds;
use crate::room::{FetchRoom, RequestRoom};
use crate::topics::Topics;

pub struct Services {
    /// The replicated metadata: image, and the configuration in force.
    pub metadata: Arc<Metadata>,
    /// Decides changes of metadata, where this node leads the quorum.
    pub controller: Arc<Controller<Metadata>>,
    /// The way to the active controller.
    pub controllers: Arc<Controllers>,
    /// Topics and partitions served here: append, read.
    pub topics: Arc<Topics>,
    /// Consumer groups whose coordinator is here.
    pub coordinators: Arc<Coordinators>,
    pub producer_ids: ProducerIds,
    pub guard_limits: GuardLimits,
    /// Newest records of partitions whose log had to be searched for them.
    pub newest: Newest,
    /// Memory of records on their way out.
    pub fetch_room: FetchRoom,
    /// Memory of requests being read.
    pub request_room: RequestRoom,
    /// True once the broker stops: long polls end.
    pub stopping: watch::Receiver<bool>,
}
