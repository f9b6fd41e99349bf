//! What all shards of this process may hold together: a share of its memory.

use std::sync::{Arc, Mutex};

use metrics::Gauge;
use ottla_coordinator::{States, Usage};
use ottla_proto::limits::{GROUP_MEMORY_BYTES, MEMBER_MEMORY_BYTES, OFFSET_MEMORY_BYTES};

pub struct Bounds {
    most: Usage,
    used: Mutex<Usage>,
    gauges: Gauges,
}

impl Bounds {
    /// Half of the memory is for committed offsets, an eighth of it all for what they say; a quarter
    /// for what members say of themselves.
    pub fn new(memory_bytes: usize) -> Arc<Bounds> {
        let most = Usage {
            offsets: memory_bytes * 3 / 8 / OFFSET_MEMORY_BYTES,
            offset_text_bytes: memory_bytes / 8,
            member_bytes: memory_bytes / 4,
            members: memory_bytes / 8 / MEMBER_MEMORY_BYTES,
            groups: memory_bytes / 8 / GROUP_MEMORY_BYTES,
            states: States::default(),
        };
        Arc::new(Bounds {
            most,
            used: Mutex::default(),
            gauges: Gauges::new(),
        })
    }
}

/// What one shard holds; given back with it.
pub struct Part {
    bounds: Arc<Bounds>,
    own: Usage,
}

impl Part {
    pub fn new(bounds: Arc<Bounds>) -> Part {
        Part {
            bounds,
            own: Usage::default(),
        }
    }

    /// Says what the shard holds now, and answers what is left for it and all others.
    pub fn update(&mut self, own: Usage) -> Usage {
        let mut used = self.bounds.used.lock().expect("never poisoned");
        *used = used.less(self.own).plus(own);
        self.own = own;
        self.bounds.gauges.show(&used);
        self.bounds.most.less(*used)
    }
}

/// Looked up once: a shard tells what it holds with each command.
struct Gauges {
    offsets: Gauge,
    groups: Gauge,
    empty: Gauge,
    preparing_rebalance: Gauge,
    completing_rebalance: Gauge,
    stable: Gauge,
}

impl Gauges {
    fn new() -> Gauges {
        macro_rules! gauge {
            ($name:literal) => {
                metrics::gauge!(concat!(
                    "kafka_coordinator_group_groupmetadatamanager_",
                    $name
                ))
            };
        }
        Gauges {
            offsets: gauge!("numoffsets"),
            groups: gauge!("numgroups"),
            empty: gauge!("numgroupsempty"),
            preparing_rebalance: gauge!("numgroupspreparingrebalance"),
            completing_rebalance: gauge!("numgroupscompletingrebalance"),
            stable: gauge!("numgroupsstable"),
        }
    }

    fn show(&self, used: &Usage) {
        let states = used.states;
        let busy = states.preparing_rebalance + states.completing_rebalance + states.stable;
        self.offsets.set(used.offsets as f64);
        self.groups.set(used.groups as f64);
        self.empty.set(used.groups.saturating_sub(busy) as f64);
        self.preparing_rebalance
            .set(states.preparing_rebalance as f64);
        self.completing_rebalance
            .set(states.completing_rebalance as f64);
        self.stable.set(states.stable as f64);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.update(Usage::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_one_bound() {
        let bounds = Bounds::new(16 << 20);
        let mut parts = [Part::new(bounds.clone()), Part::new(bounds.clone())];
        let most = bounds.most;
        assert!(most.offsets >= 10_000 && most.groups >= 1000);
        let half = Usage {
            offsets: most.offsets / 2,
            ..Usage::default()
        };
        assert_eq!(parts[0].update(half).offsets, most.offsets - half.offsets);
        assert_eq!(parts[1].update(most), Usage::default());
        let [first, second] = parts;
        drop(second);
        assert_eq!(*bounds.used.lock().unwrap(), half);
        drop(first);
        assert_eq!(*bounds.used.lock().unwrap(), Usage::default());
    }
}
