//! As much of `wdk-build` as build scripts of drivers and of `wdk`, `wdk-alloc` and `wdk-panic` call. It sets the same
//! `cfg` and the same linker arguments, and it refuses a driver without a driver model. It looks for no kit.

use std::env::{self, VarError};
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

/// What wdk-build passes to the linker for a WDM or KMDF driver, but for what the kit's own linker alone knows.
const LINKER_ARGUMENTS: [&str; 9] = [
    "/DRIVER",
    "/NODEFAULTLIB",
    "/SUBSYSTEM:NATIVE",
    "/ENTRY:DriverEntry",
    "/NXCOMPAT",
    "/DYNAMICBASE",
    "/OPT:REF,ICF",
    "/MANIFEST:NO",
    "/RELEASE",
];

/// Why a driver cannot be built.
pub enum ConfigError {
    /// Cargo did not say where the package is.
    NoManifestDirectory(VarError),
    /// The package's manifest cannot be read.
    Unreadable(PathBuf, io::Error),
    /// The package's manifest is no TOML.
    NoToml(PathBuf, toml::de::Error),
    /// The package names no driver model.
    NoDriverModel(PathBuf),
    /// It names one that this stand-in has no headers for.
    UnknownDriverModel(PathBuf, String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoManifestDirectory(error) => write!(f, "CARGO_MANIFEST_DIR: {error}"),
            Self::Unreadable(path, error) => write!(f, "{}: {error}", path.display()),
            Self::NoToml(path, error) => write!(f, "{}: {error}", path.display()),
            Self::NoDriverModel(path) => write!(
                f,
                "{}: no driver model; a driver has [package.metadata.wdk.driver-model] with driver-type = \"WDM\"",
                path.display()
            ),
            Self::UnknownDriverModel(path, model) => write!(
                f,
                "{}: driver-type = \"{model}\"; this stand-in has the headers of \"WDM\" only",
                path.display()
            ),
        }
    }
}

/// A build script that returns an error shows this.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigError {}

/// The driver model that everything is built for.
#[derive(Debug)]
pub struct Config(());

impl Config {
    /// The one configuration that there is.
    pub fn from_env_auto() -> Result<Self, ConfigError> {
        Ok(Self(()))
    }

    /// Declares the `cfg` that libraries choose their modules by.
    pub fn emit_check_cfg_settings() {
        println!(r#"cargo::rustc-check-cfg=cfg(driver_model__driver_type, values("WDM","KMDF","UMDF"))"#);
    }

    /// For a library: the `cfg`.
    pub fn configure_library_build(&self) -> Result<(), ConfigError> {
        Self::emit_check_cfg_settings();
        println!(r#"cargo::rustc-cfg=driver_model__driver_type="WDM""#);
        Ok(())
    }

    /// For a driver: the `cfg` and the linker's arguments.
    pub fn configure_binary_build(&self) -> Result<(), ConfigError> {
        require_driver_model()?;
        self.configure_library_build()?;
        for argument in LINKER_ARGUMENTS {
            println!("cargo::rustc-cdylib-link-arg={argument}");
        }
        Ok(())
    }
}

/// For a library's build script.
pub fn configure_wdk_library_build() -> Result<(), ConfigError> {
    Config::from_env_auto()?.configure_library_build()
}

/// For a library's build script that goes on.
pub fn configure_wdk_library_build_and_then<F, E>(mut then: F) -> Result<(), E>
where
    F: FnMut(Config) -> Result<(), E>,
    E: From<ConfigError>,
{
    configure_wdk_library_build()?;
    then(Config::from_env_auto()?)
}

/// For a driver's build script.
pub fn configure_wdk_binary_build() -> Result<(), ConfigError> {
    Config::from_env_auto()?.configure_binary_build()
}

fn require_driver_model() -> Result<(), ConfigError> {
    let directory = env::var("CARGO_MANIFEST_DIR").map_err(ConfigError::NoManifestDirectory)?;
    let package = PathBuf::from(directory);
    match driver_model(package.join("Cargo.toml")) {
        // A workspace may have it for all of its packages.
        Err(ConfigError::NoDriverModel(path)) => {
            let manifests = package.ancestors().skip(1).map(|directory| directory.join("Cargo.toml"));
            let workspace = manifests
                .filter(|manifest| manifest.exists())
                .find(|manifest| driver_model(manifest.clone()).is_ok());
            workspace.map(drop).ok_or(ConfigError::NoDriverModel(path))
        }
        model => model,
    }
}

fn driver_model(path: PathBuf) -> Result<(), ConfigError> {
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return Err(ConfigError::Unreadable(path, error)),
    };
    let manifest: toml::Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return Err(ConfigError::NoToml(path, error)),
    };
    let wdk = manifest
        .get("package")
        .and_then(|package| package.get("metadata"))
        .or_else(|| manifest.get("workspace").and_then(|workspace| workspace.get("metadata")))
        .and_then(|metadata| metadata.get("wdk"));
    let model = wdk.and_then(|wdk| wdk.get("driver-model")).and_then(|model| model.get("driver-type"));
    match model.and_then(toml::Value::as_str) {
        Some("WDM") => Ok(()),
        Some(other) => Err(ConfigError::UnknownDriverModel(path, other.to_owned())),
        None => Err(ConfigError::NoDriverModel(path)),
    }
}
