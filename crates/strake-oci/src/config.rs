use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{DiffId, Platform};

/// `{}`: the value of the set-like maps of an image configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmptyObject {}

/// An image configuration (image-spec v1.1 `config.md`) with docker's additions.
///
/// Members that strake does not know are kept in `other` and written back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Processor.
    pub architecture: String,
    /// Operating system.
    pub os: String,
    /// Processor variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How a container of the image is run.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: ContainerConfig,
    /// The layers.
    pub rootfs: RootFs,
    /// What made each layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub history: Vec<HistoryEntry>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How a container is run by default (image-spec v1.1 `config.md` §config), members as docker spells them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// `USER`: a name or id, optionally with a group.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub user: String,
    /// `EXPOSE`: ports with protocol.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub exposed_ports: BTreeMap<String, EmptyObject>,
    /// `ENV`: entries `NAME=value`, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// `ENTRYPOINT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// `CMD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// `HEALTHCHECK`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Windows: the command is already escaped.
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_is_default")]
    pub args_escaped: bool,
    /// `VOLUME`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub volumes: BTreeMap<String, EmptyObject>,
    /// `WORKDIR`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// `ONBUILD` triggers.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub on_build: Vec<String>,
    /// `LABEL`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// `STOPSIGNAL`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub stop_signal: String,
    /// `SHELL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A health check, times in nanoseconds, zero for the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", command]`; empty to inherit.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// Nanoseconds between checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// Nanoseconds one check may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// Nanoseconds in which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: u64,
    /// Nanoseconds between checks in the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: u64,
    /// Failures in a row that make a container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u64,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: RootFsType,
    /// Bottom first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<DiffId>,
}

/// The one kind of root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootFsType {
    /// A stack of layers.
    Layers,
}

/// What made a layer, or changed the configuration only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether no layer belongs to the entry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Go writes `null` for empty lists and maps; both mean the same.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl ImageConfig {
    /// The configuration of an image without layers.
    pub fn empty(platform: &Platform) -> Self {
        Self {
            created: None,
            author: None,
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            config: ContainerConfig::default(),
            rootfs: RootFs { kind: RootFsType::Layers, diff_ids: Vec::new() },
            history: Vec::new(),
            other: Map::new(),
        }
    }

    /// The platform the image runs on.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: None,
            variant: self.variant.clone(),
        }
    }

    /// The bytes to store and send.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a configuration has only string keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_members_survive() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"Volumes":null,"Domainname":""},"rootfs":{"type":"layers","diff_ids":null},"docker_version":"20.10"}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.config.env, ["A=b"]);
        let written: Value = serde_json::from_slice(&config.to_bytes()).unwrap();
        assert_eq!(written["docker_version"], "20.10");
        assert_eq!(written["config"]["Domainname"], "");
        assert_eq!(written["rootfs"]["diff_ids"], Value::Array(vec![]));
    }

    #[test]
    fn a_null_config_is_an_empty_one() {
        let text = r#"{"architecture":"amd64","os":"linux","config":null,"rootfs":{"type":"layers","diff_ids":[]},"history":null}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.config, ContainerConfig::default());
    }
}
