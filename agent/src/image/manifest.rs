//! Which layers an image has, and its configuration, from either of the two formats.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::archive::Archive;
use super::{ImageConfig, ImageError};

/// Deepest nesting of an index in an index.
const NESTING_MAX: usize = 4;

/// Most layers; the format's tools stop at 127.
const LAYERS_MAX: usize = 256;

/// What is to be unpacked.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) layers: Vec<Layer>,
    pub(crate) config: ImageConfig,
}

/// One layer.
#[derive(Debug)]
pub(crate) struct Layer {
    /// The name of the part that holds it, compressed or not.
    pub(crate) part: String,
    /// Digest of the uncompressed layer, `sha256:...`.
    pub(crate) diff_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    #[serde(default)]
    media_type: String,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct OciManifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// One entry of the list that `docker save` writes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    layers: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct ConfigFile {
    #[serde(default)]
    config: Option<RunConfig>,
    rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RunConfig {
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    working_dir: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// Reads what the image consists of.
pub(crate) fn read(archive: &Archive) -> Result<Image, ImageError> {
    if archive.has("oci-layout") && archive.has("index.json") {
        return read_layout(archive);
    }
    if archive.has("manifest.json") {
        return read_saved(archive);
    }
    Err(ImageError::Unknown { path: archive.path().to_owned(), hint: "" })
}

fn read_layout(archive: &Archive) -> Result<Image, ImageError> {
    let mut index: Index = parse("index.json", &archive.read("index.json")?)?;
    for _ in 0..NESTING_MAX {
        let chosen = choose(index)?;
        let (name, bytes) = blob(archive, &chosen.digest)?;
        if is_index(&chosen, &bytes) {
            index = parse(&name, &bytes)?;
            continue;
        }
        let manifest: OciManifest = parse(&name, &bytes)?;
        let (config_name, config) = blob(archive, &manifest.config.digest)?;
        let parts: Result<Vec<_>, _> = manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect();
        return image(parts?, parse(&config_name, &config)?);
    }
    Err(ImageError::malformed("index.json", "its indexes are nested too deep"))
}

fn read_saved(archive: &Archive) -> Result<Image, ImageError> {
    let list: Vec<DockerManifest> = parse("manifest.json", &archive.read("manifest.json")?)?;
    let count = list.len();
    let Ok([saved]) = <[DockerManifest; 1]>::try_from(list) else {
        return Err(ImageError::malformed("manifest.json", format!("it lists {count} images; save one image alone")));
    };
    let config = parse(&saved.config, &archive.read(&saved.config)?)?;
    image(saved.layers, config)
}

fn image(parts: Vec<String>, file: ConfigFile) -> Result<Image, ImageError> {
    let diff_ids = file.rootfs.diff_ids;
    if parts.len() != diff_ids.len() || parts.len() > LAYERS_MAX {
        let reason = format!("it has {} layers and {} digests for them", parts.len(), diff_ids.len());
        return Err(ImageError::malformed("the manifest", reason));
    }
    let run = file.config.unwrap_or_default();
    let env = run.env.unwrap_or_default();
    let config = ImageConfig {
        env: env.iter().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        workdir: run.working_dir.filter(|path| !path.is_empty()).map(Into::into),
    };
    let layers = parts.into_iter().zip(diff_ids).map(|(part, diff_id)| Layer { part, diff_id }).collect();
    Ok(Image { layers, config })
}

/// The variant for this machine; a single entry without a platform is taken as it is.
fn choose(index: Index) -> Result<Descriptor, ImageError> {
    let wanted = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut entries = index.manifests;
    if entries.len() == 1 && entries[0].platform.is_none() {
        return Ok(entries.remove(0));
    }
    let found: Vec<String> = entries.iter().filter_map(|entry| entry.platform.as_ref()).map(Platform::text).collect();
    let fits = |entry: &Descriptor| {
        entry.platform.as_ref().is_some_and(|platform| platform.os == "linux" && platform.architecture == wanted)
    };
    entries.into_iter().find(fits).ok_or_else(|| ImageError::Platform {
        wanted: wanted.to_owned(),
        found: if found.is_empty() { "several without a platform".to_owned() } else { found.join(", ") },
    })
}

impl Platform {
    fn text(&self) -> String {
        format!("{}/{}", self.os, self.architecture)
    }
}

fn is_index(descriptor: &Descriptor, bytes: &[u8]) -> bool {
    descriptor.media_type.contains("index")
        || descriptor.media_type.contains("manifest.list")
        || (descriptor.media_type.is_empty() && serde_json::from_slice::<Index>(bytes).is_ok())
}

fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|error| ImageError::malformed(name, error))
}

/// Reads a small blob and checks it.
fn blob(archive: &Archive, digest: &str) -> Result<(String, Vec<u8>), ImageError> {
    let name = blob_name(digest)?;
    let bytes = archive.read(&name)?;
    check(&name, digest, Sha256::digest(&bytes).as_slice())?;
    Ok((name, bytes))
}

fn blob_name(digest: &str) -> Result<String, ImageError> {
    match digest.split_once(':') {
        Some(("sha256", hex)) if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(format!("blobs/sha256/{hex}"))
        }
        _ => Err(ImageError::malformed(digest, "only sha256 digests are understood")),
    }
}

/// Compares a digest with what was read.
pub(crate) fn check(name: &str, expected: &str, found: &[u8]) -> Result<(), ImageError> {
    let found = found.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    if found == expected {
        return Ok(());
    }
    Err(ImageError::Damaged { name: name.to_owned(), expected: expected.to_owned(), found })
}
