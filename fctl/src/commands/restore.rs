//! `fctl coordinator restore` and `fctl coordinator recover`: a cluster goes on after a disaster, and what was lost is said.

use std::process::ExitCode;

use flowyard_cas::Origin;
use flowyard_coordinator::fleet::{
    RestoreError, Restored, recover as recover_alone, restore as restore_backup, survey,
};
use flowyard_coordinator::raft::engine::EngineKind;
use flowyard_sdk::shown::chain;
use serde_json::json;

use super::Outcome;
use super::backup::{Source, unusable};
use super::coordinator::{folder_flag, prepare};
use crate::cli::fleet::{CoordinatorRecover, CoordinatorRestore};
use crate::failure::Failure;
use crate::fleet_settings::FleetSettings;
use crate::{output, text};

pub(super) async fn restore(asked: &CoordinatorRestore) -> Outcome {
    let (folder, reached) = (&asked.place.folder, asked.place.reached()?);
    let file = asked.backup.display().to_string();
    let backup = Source::named(&file)?;
    prepare(folder)?;
    let backup = backup.fetch(&file, folder).await?;
    let place = asked.place.shared_origin.clone().unwrap_or_else(|| folder.join("origin"));
    let origin = || Origin::in_directory(&place, true);
    let restored = restore_backup(folder, &reached.address, EngineKind::default(), &backup.path, origin).await;
    let restored = restored.map_err(|error| match &error {
        RestoreError::Backup { source, .. } => unusable(&file, source),
        error => Failure::Home(chain(error)),
    })?;
    let name = match &asked.cluster {
        Some(name) => name.to_string(),
        None if restored.summary.head.name.is_empty() => "restored".to_owned(),
        None => restored.summary.head.name.clone(),
    };
    let mut settings = FleetSettings::made(&name, restored.identity, &reached.address, reached.listen);
    settings.shared_origin.clone_from(&asked.place.shared_origin);
    settings.write(folder)?;
    let lost = losses(&restored, asked.place.shared_origin.is_some());
    if output::is_json() {
        output::json(&json!({
            "cluster": name, "id": restored.identity.cluster.to_string(), "coordinator": restored.identity.replica,
            "epoch": restored.identity.epoch, "revision": restored.summary.head.revision, "folder": folder,
            "authority_kept": restored.authority_kept, "warnings": lost,
        }));
    } else {
        output::line(format!(
            "cluster {name} is restored from revision {}; this host is its coordinator {}, in epoch {}",
            restored.summary.head.revision, restored.identity.replica, restored.identity.epoch
        ));
        lost.iter().for_each(output::warning);
        output::note(format!("run it:  fctl coordinator run{}", folder_flag(folder)));
    }
    Ok(ExitCode::SUCCESS)
}

/// What the operator has to know of a restored cluster.
fn losses(restored: &Restored, shared_origin: bool) -> Vec<String> {
    let head = &restored.summary.head;
    let mut lost = vec![format!(
        "what happened after the backup ({} ago) is lost: jobs submitted since then are not known, their numbers are given again, \
         and what ended since then runs again unless its node still has it",
        text::duration(flowyard_clock::wall_ms().saturating_sub(head.made_at_ms))
    )];
    match restored.authority_kept {
        true => lost.push(
            "never start a coordinator of the cluster as it was before: nodes and people could follow that one".to_owned(),
        ),
        false => lost.push(
            "the backup has no keys, so the cluster has a new authority: every node and every person must be let in anew, with \
             tokens of `fctl token create`; secrets cannot be read: keep them anew with `fctl secret put`"
                .to_owned(),
        ),
    }
    if !head.blobs && !shared_origin {
        lost.push(
            "the backup has no blobs: what jobs stored is gone, and jobs that have not ended will fail for want of it"
                .to_owned(),
        );
    }
    if restored.summary.tail.lost_blobs > 0 {
        lost.push(format!("{} that jobs name were lost before", text::count(restored.summary.tail.lost_blobs, "blob")));
    }
    lost
}

pub(super) async fn recover(asked: &CoordinatorRecover) -> Outcome {
    let folder = &asked.folder;
    let settings = FleetSettings::read(folder)?;
    let config = settings.fleet()?;
    let place = settings.shared_origin.clone().unwrap_or_else(|| folder.join("origin"));
    let origin = Origin::in_directory(&place, true).map_err(|error| Failure::Home(chain(&error)))?;
    let survivor = survey(folder, &config, origin).await.map_err(|error| Failure::Home(chain(&error)))?;
    let (before, revision) = (survivor.identity(), survivor.revision());
    let others: Vec<String> = survivor.others.iter().map(|(id, address)| format!("{id} ({address})")).collect();
    let mut lost = vec![format!(
        "coordinator {} goes on alone from revision {revision}, {} ago; {} given up: what they had acknowledged and this one never \
         heard of is lost",
        before.replica,
        text::duration(flowyard_clock::wall_ms().saturating_sub(survivor.time().0)),
        match others.len() {
            0 => "nobody is".to_owned(),
            1 => format!("coordinator {} is", others[0]),
            _ => format!("coordinators {} are", others.join(", ")),
        },
    )];
    if survivor.undecided() > 0 {
        lost.push(format!(
            "its last {} may never have been decided; they count from now on",
            text::count(survivor.undecided(), "change")
        ));
    }
    if survivor.lost_blobs > 0 {
        lost.push(format!("{} that jobs name are not here, and lost", text::count(survivor.lost_blobs, "blob")));
    }
    lost.push("the others may never be started again: remove their folders, and let their hosts join anew".to_owned());
    if !output::is_json() {
        lost.iter().for_each(output::warning);
    }
    if !asked.yes {
        return Err(Failure::Usage("nothing was changed; to go on, say so with --yes".to_owned()));
    }
    let identity = recover_alone(folder, &config, survivor).await.map_err(|error| Failure::Home(chain(&error)))?;
    settings.in_epoch(identity.epoch).write(folder)?;
    if output::is_json() {
        output::json(&json!({
            "coordinator": identity.replica, "epoch": identity.epoch, "revision": revision, "folder": folder, "warnings": lost,
        }));
    } else {
        output::line(format!("coordinator {} is the only one, in epoch {}", identity.replica, identity.epoch));
        output::note(format!(
            "run it:  fctl coordinator run{}\nwhat it was before is kept in {}",
            folder_flag(folder),
            folder.join("before-recovery").display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}
