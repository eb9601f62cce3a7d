//! Wine, whose winedevice loads drivers against its own ntoskrnl.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::log::{self, Log};
use crate::workshop;

const WINE: &str = "/usr/lib/wine/wine64";
const SERVER: &str = "/usr/lib/wine/wineserver64";

/// Seconds that a step may take.
const SET_UP: u32 = 180;
const LOAD: u32 = 120;
const END: u32 = 60;
const PROGRAM: u32 = 300;

/// What Wine writes down: debug output, faults, bugchecks, missing imports.
const SAYS: &str = "-all,+pid,warn+debugstr,warn+module,err+ntoskrnl,err+module,err+seh";
/// And each pool call.
const TRACES: &str = "-all,+pid,warn+debugstr,warn+module,trace+ntoskrnl,err+module,err+seh";

/// No debugger's window for a driver that faults; and milliseconds that a driver has for its DriverEntry.
const SETTINGS: [[&str; 4]; 2] = [
    ["HKLM\\Software\\Microsoft\\Windows NT\\CurrentVersion\\AeDebug", "Debugger", "REG_SZ", ""],
    ["HKLM\\System\\CurrentControlSet\\Control", "ServicesPipeTimeout", "REG_DWORD", "60000"],
];

/// A Windows that boots for one test run, and is gone after it.
pub struct Wine {
    prefix: PathBuf,
    /// Seconds that a driver may take, and the end of Windows after it.
    load: u32,
    end: u32,
    /// Whether another one looks after the end.
    is_borrowed: bool,
    /// Held for as long as this Windows is.
    _lock: Option<File>,
}

impl Wine {
    /// Makes one, with nothing of an earlier run in it.
    pub fn start() -> Result<Self> {
        let prefix = workshop().join("wine");
        fs::create_dir_all(workshop())?;
        let lock = File::create(workshop().join("wine.lock"))?;
        if lock.try_lock().is_err() {
            eprintln!("xtask: waits for another one that has Wine");
            lock.lock()?;
        }
        let wine = Self { prefix, load: LOAD, end: END, is_borrowed: false, _lock: Some(lock) };
        if wine.prefix.exists() {
            wine.command(SERVER, END).arg("-k").status()?;
            fs::remove_dir_all(&wine.prefix)?;
        }
        fs::create_dir_all(&wine.prefix)?;
        let status = wine.command(WINE, SET_UP).args(["wineboot", "-i"]).stderr(Stdio::null()).status()?;
        if !status.success() {
            bail!("Wine does not start: wineboot ended with {status}");
        }
        wine.wait()?;
        // Services read it when they start, which they do anew from here on.
        for [key, value, kind, data] in SETTINGS {
            let mut reg = wine.command(WINE, SET_UP);
            reg.args(["reg", "add", key, "/v", value, "/t", kind, "/d", data, "/f"])
                .stdout(Stdio::null())
                .status()?;
        }
        wine.wait()?;
        Ok(wine)
    }

    /// The same Windows, with less patience.
    pub fn bounded(&self, seconds: u32) -> Self {
        Self { prefix: self.prefix.clone(), load: seconds, end: seconds, is_borrowed: true, _lock: None }
    }

    /// Loads a driver, with these values in its service's registry key, runs commands, and unloads it.
    pub fn load(&self, image: &Path, name: &str, values: &[(&str, u32)], commands: &[&str]) -> Result<Log> {
        self.run(SAYS, image, name, values, commands)
    }

    /// As [`load`](Self::load), with each pool call in the log.
    pub fn load_traced(
        &self,
        image: &Path,
        name: &str,
        values: &[(&str, u32)],
        commands: &[&str],
    ) -> Result<Log> {
        self.run(TRACES, image, name, values, commands)
    }

    /// Runs a program, and returns what it printed.
    pub fn program(&self, program: &Path) -> Result<String> {
        let output = self.command(WINE, PROGRAM).arg(program).output().context("Wine")?;
        self.wait()?;
        Ok(String::from_utf8_lossy(&output.stdout).replace('\r', ""))
    }

    fn run(
        &self,
        says: &str,
        image: &Path,
        name: &str,
        values: &[(&str, u32)],
        commands: &[&str],
    ) -> Result<Log> {
        let system = self.prefix.join("drive_c");
        fs::copy(image, system.join("windows/system32/drivers").join(format!("{name}.sys")))
            .with_context(|| format!("{}", image.display()))?;
        fs::write(system.join("load.bat"), batch(name, values, commands))?;
        let begin = || -> Result<Log> {
            let mut wine = self.command(WINE, self.load);
            let output =
                wine.env("WINEDEBUG", says).args(["cmd", "/c", "C:\\load.bat"]).output().context("Wine")?;
            self.wait()?;
            Ok(Log::of(&output.stdout, &output.stderr))
        };
        let log = begin()?;
        // Now and then Wine does not even start the batch file.
        if log.has_begun() { Ok(log) } else { begin() }
    }

    /// A command in this Windows, which ends after so many seconds at the latest.
    fn command(&self, program: &str, seconds: u32) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", &seconds.to_string(), program])
            .env("WINEPREFIX", &self.prefix)
            .env("WINEARCH", "win64")
            .env("WINEDEBUG", "-all")
            .env("WINEDLLOVERRIDES", "mscoree,mshtml,winemenubuilder.exe=")
            .env_remove("DISPLAY")
            .stdin(Stdio::null());
        command
    }

    /// Waits until all of this Windows has ended, and ends it if it does not.
    fn wait(&self) -> Result<()> {
        if !self.command(SERVER, self.end).arg("-w").status()?.success() {
            self.command(SERVER, END).arg("-k").status()?;
        }
        Ok(())
    }
}

impl Drop for Wine {
    fn drop(&mut self) {
        if self.is_borrowed {
            return;
        }
        // Best effort: nothing of it is to stay behind.
        let _ = self.command(SERVER, END).arg("-k").stderr(Stdio::null()).status();
    }
}

/// All in one batch file, because each start of Wine costs a second.
fn batch(name: &str, values: &[(&str, u32)], commands: &[&str]) -> String {
    let key = format!("HKLM\\System\\CurrentControlSet\\Services\\{name}");
    let mut lines = format!(
        "@echo off\r\n\
         echo {}\r\n\
         sc create {name} type= kernel start= demand binPath= C:\\windows\\system32\\drivers\\{name}.sys >nul\r\n",
        log::BEGUN
    );
    for (value, number) in values {
        let _ = write!(lines, "reg add {key} /v {value} /t REG_DWORD /d {number} /f >nul\r\n");
    }
    let _ = write!(lines, "net start {name}\r\necho {} %ERRORLEVEL%\r\n", log::STARTED);
    for command in commands {
        let _ = write!(lines, "{command}\r\n");
    }
    let _ = write!(lines, "echo {}\r\n", log::RAN);
    let _ =
        write!(lines, "net stop {name}\r\necho {} %ERRORLEVEL%\r\nsc delete {name} >nul\r\n", log::STOPPED);
    lines
}
