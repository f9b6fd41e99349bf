//! What the groups' own rows say, and whether that fits the metadata.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ottla_log::Tag;
use ottla_log::verify::Offline;
use ottla_proto::ids::{GroupId, PartitionId};
use ottla_raft::verify::{GroupCheck, GroupEnd, PartitionEnd};

use super::catalog::{Catalog, Standing};
use super::report::{Check, Finding, Report};
use crate::cleaner::CleanerState;
use crate::identity::Identity;

pub struct Stored {
    /// Without their partitions, which stand in `ends`.
    groups: BTreeMap<GroupId, GroupEnd>,
    ends: HashMap<PartitionId, (GroupId, PartitionEnd)>,
    /// Partitions that were compacted on this replica.
    compacted: HashSet<PartitionId>,
    /// False where rows could not be read at all.
    is_certain: bool,
}

impl Stored {
    pub fn read(store: &Offline, report: &mut Report) -> Stored {
        let mut checks: BTreeMap<GroupId, GroupCheck> = BTreeMap::new();
        let mut compacted = HashSet::new();
        let mut bad = Vec::new();
        let mut cleaners: Vec<(PartitionId, String)> = Vec::new();
        let states = store.state_rows(|key, row| match key {
            None => bad.push(format!("a row of state has an unknown key {row:02x?}")),
            Some(key)
                if matches!(
                    key.tag,
                    Tag::Identity | Tag::Synced | Tag::Freed | Tag::Losses
                ) => {}
            Some(key) if key.tag == Tag::Cleaner => {
                compacted.insert(PartitionId(key.id));
                if let Err(error) = CleanerState::decode(row) {
                    cleaners.push((PartitionId(key.id), error.to_string()));
                }
            }
            Some(key) => {
                let group = key.group;
                let check = checks
                    .entry(group)
                    .or_insert_with(|| GroupCheck::new(group));
                check.state_row(key, row);
            }
        });
        let rafts = store.raft_rows(|key, row| match key {
            None => bad.push(format!("a raft row has an unknown key {row:02x?}")),
            Some((group, index)) => {
                let check = checks
                    .entry(group)
                    .or_insert_with(|| GroupCheck::new(group));
                check.raft_row(index, row);
            }
        });
        let is_certain = states.is_ok() && rafts.is_ok();
        for error in [states.err(), rafts.err()].into_iter().flatten() {
            report.find(Finding::new(Check::Groups, error));
        }
        for detail in bad {
            report.find(Finding::new(Check::Groups, detail));
        }
        for (id, detail) in cleaners {
            let finding = Finding::new(Check::Groups, detail);
            report.find(finding.of(id, &id.to_string()));
        }
        let mut stored = Stored {
            groups: BTreeMap::new(),
            ends: HashMap::new(),
            compacted,
            is_certain,
        };
        for (id, check) in checks {
            stored.take(id, check.finish(), report);
        }
        report.groups = stored.groups.len() as u64;
        stored
    }

    fn take(&mut self, id: GroupId, mut group: GroupEnd, report: &mut Report) {
        for (partition, end) in std::mem::take(&mut group.partitions) {
            if let Some((other, _)) = self.ends.insert(partition, (id, end)) {
                let detail = format!("it has rows in group {other} and in group {id}");
                let finding = Finding::new(Check::Groups, detail);
                report.find(finding.of(partition, &partition.to_string()));
            }
        }
        self.groups.insert(id, group);
    }

    /// Tells the groups' problems, by the names of partitions, and what does not fit the metadata.
    pub fn check_against(
        &mut self,
        catalog: &Catalog,
        identity: Option<&Identity>,
        report: &mut Report,
    ) {
        for (id, group) in &mut self.groups {
            for problem in std::mem::take(&mut group.problems) {
                let detail = format!("group {id}: {}", problem.detail);
                let finding = Finding::new(Check::Groups, detail);
                report.find(match problem.partition {
                    Some(partition) => finding.of(partition, &catalog.name(partition)),
                    None => finding,
                });
            }
            if group.more_problems > 0 {
                report.more(Check::Groups, group.more_problems);
            }
        }
        self.check_placement(catalog, report);
        if let Some(identity) = identity {
            self.check_identity(catalog, identity, report);
        }
    }

    fn check_placement(&self, catalog: &Catalog, report: &mut Report) {
        for (id, (group, end)) in &self.ends {
            let detail = match catalog.standing(*id) {
                _ if end.removed => continue,
                Standing::Placed(placed) if placed != *group => {
                    format!("its rows are in group {group}, the metadata places it in {placed}")
                }
                Standing::Unknown => {
                    format!("group {group} has rows of it, and the metadata does not know it")
                }
                _ => continue,
            };
            let finding = Finding::new(Check::Metadata, detail);
            report.find(finding.of(*id, &catalog.name(*id)));
        }
    }

    fn check_identity(&self, catalog: &Catalog, identity: &Identity, report: &mut Report) {
        if let Some(cluster) = catalog.image.cluster_id()
            && cluster != identity.cluster_id
        {
            let ours = &identity.cluster_id;
            let detail = format!("meta.properties says cluster {ours}, the metadata {cluster}");
            report.find(Finding::new(Check::Identity, detail).file("meta.properties"));
        }
        let replica = identity.replica_id();
        for (id, group) in &self.groups {
            if !group.members.is_empty() && !group.members.contains(&replica) {
                let members = &group.members;
                let detail =
                    format!("group {id} has the replicas {members:?}; this folder's is {replica}");
                report.find(Finding::new(Check::Identity, detail));
            }
        }
        let led = catalog.image.groups();
        for group in led.filter(|g| g.leader == Some(identity.node_id) && self.is_certain) {
            let voted = self.groups.get(&group.id).and_then(|g| g.vote_term);
            let epoch = group.leader_epoch;
            if voted.is_none_or(|term| (term as i64) < i64::from(epoch)) {
                let voted = voted.map_or("it has no vote".into(), |t| format!("its vote is {t}"));
                let detail = format!("group {} was led in epoch {epoch}, and {voted}", group.id);
                report.find(Finding::new(Check::Groups, detail));
            }
        }
    }

    /// Every partition that has rows, is in the metadata, or has batches without either; ascending.
    pub fn partitions(
        &self,
        store: &Offline,
        catalog: &Catalog,
        report: &mut Report,
    ) -> Vec<PartitionId> {
        let known: BTreeSet<PartitionId> = self
            .ends
            .keys()
            .copied()
            .chain(catalog.partitions())
            .collect();
        let mut all = known.clone();
        let mut from = 0;
        for below in known.iter().map(|p| Some(*p)).chain([None]) {
            while below.is_none_or(|below| from < below.0) {
                match store.partition_between(PartitionId(from), below) {
                    Ok(None) => break,
                    Ok(Some(stray)) => {
                        all.insert(stray);
                        let Some(next) = stray.0.checked_add(1) else {
                            return all.into_iter().collect();
                        };
                        from = next;
                    }
                    Err(error) => {
                        report.find(Finding::new(Check::Tables, error));
                        break;
                    }
                }
            }
            from = below.map_or(from, |below| below.0.saturating_add(1));
        }
        all.into_iter().collect()
    }

    /// Where a partition ends by the rows of its group, and whether that can be relied on.
    pub fn end(&self, id: PartitionId, standing: Standing) -> (PartitionEnd, bool) {
        match (self.ends.get(&id), standing) {
            (Some((group, end)), _) => (end.clone(), self.is_certain_of(*group) && !end.is_unclear),
            (None, Standing::Placed(group)) => (PartitionEnd::default(), self.is_certain_of(group)),
            (None, _) => (PartitionEnd::default(), false),
        }
    }

    fn is_certain_of(&self, group: GroupId) -> bool {
        self.is_certain && self.groups.get(&group).is_none_or(|g| g.is_certain)
    }

    pub fn was_compacted(&self, id: PartitionId) -> bool {
        self.compacted.contains(&id)
    }
}
