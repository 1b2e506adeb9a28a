//! `hvsampler config`: what the configuration comes to.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use crate::{
    config::Examined,
    export::{client::Client, terminal},
    kernel::check::{CheckItem, CheckStatus, all_needed},
};

/// What there is to say of a configuration.
#[derive(Clone, Debug)]
pub struct Report {
    items: Vec<CheckItem>,
}

impl Report {
    /// Looks at the settings, and into the files that they name.
    #[must_use]
    pub fn of(examined: &Examined) -> Self {
        let mut items = rows(examined);
        // Problems of settings come first: which files count follows from them.
        if examined.problems.is_empty()
            && examined.config.export.is_enabled()
            && let Err(error) = Client::new(&examined.config.export)
        {
            items.push(CheckItem::fail(NAME, format!("{:#}", anyhow::Error::from(error)), FIX));
        }
        Self { items }
    }

    /// Whether the service would start with it.
    #[must_use]
    pub fn can_be_used(&self) -> bool {
        all_needed(&self.items)
    }

    /// One line for each piece; every line ends with a newline.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for item in &self.items {
            let status = match item.status {
                CheckStatus::Ok => continue,
                CheckStatus::Warn => "warn",
                CheckStatus::Fail => "FAIL",
            };
            let _ = writeln!(text, "{status}  {}", terminal::printable(&item.detail));
        }
        text.push_str(match self.can_be_used() {
            true => "The configuration can be used.\n",
            false => "The configuration cannot be used until what FAILs is corrected.\n",
        });
        text
    }
}

/// The configuration as a file.
///
/// # Errors
/// All problems of a configuration that cannot be used.
pub fn print(examined: &Examined) -> Result<String> {
    if !examined.problems.is_empty() {
        let problems: Vec<_> = examined.problems.iter().map(ToString::to_string).collect();
        bail!("{}", problems.join("\n"));
    }
    Ok(examined.print()?)
}

const NAME: &str = "configuration";
const FIX: &str = "correct what is named here";

/// The rows of `hvsampler check`.
pub(super) fn rows(examined: &Examined) -> Vec<CheckItem> {
    let Examined { problems, warnings, .. } = examined;
    if problems.is_empty() && warnings.is_empty() {
        return vec![CheckItem::ok(NAME, "can be used")];
    }
    let problems = problems.iter().map(|problem| CheckItem::fail(NAME, chain(problem), FIX));
    let warnings = warnings.iter().map(|warning| {
        let fix = "unset it for this service, as with UnsetEnvironment= of the unit";
        CheckItem::warn(NAME, warning.to_string(), fix)
    });
    problems.chain(warnings).collect()
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::PathBuf};

    use super::*;
    use crate::config::{Config, Overrides};

    struct Setup {
        dir: tempfile::TempDir,
        env: BTreeMap<&'static str, &'static str>,
        flags: Overrides,
    }

    impl Setup {
        fn new(text: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("config.toml"), text).unwrap();
            Self { dir, env: BTreeMap::new(), flags: Overrides::default() }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("config.toml")
        }

        fn examined(&self) -> Examined {
            let get = |name: &str| self.env.get(name).map(Into::into);
            Config::examine(Some(&self.path()), &get, &self.flags)
        }

        /// Without the path of the directory.
        fn printed(&self) -> String {
            print(&self.examined()).unwrap().replace(&format!("{}/", self.dir.path().display()), "")
        }

        fn checked(&self) -> (String, bool) {
            let report = Report::of(&self.examined());
            (report.text().replace(&format!("{}/", self.dir.path().display()), ""), report.can_be_used())
        }
    }

    #[test]
    fn each_value_has_where_it_comes_from() {
        let mut setup = Setup::new(
            "interval = '30s'\n\
             [log]\n\
             level = 'error'\n\
             [export]\n\
             endpoint = 'http://file:4318'\n\
             resource_attributes = { 'deployment.environment.name' = 'prod', rack = '7' }\n\
             headers = { x-file = 's3cret' }\n",
        );
        setup.env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret"),
            ("OTEL_RESOURCE_ATTRIBUTES", "rack=8,row=2"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
            ("OTEL_SDK_DISABLED", "1"),
        ]
        .into();
        setup.flags.log_level = Some(crate::config::LogLevel::Debug);
        let text = setup.printed();
        for line in [
            "# OTEL_SDK_DISABLED=\"1\" is neither true nor false: it counts as false",
            "interval = \"30s\"  # config.toml:1",
            "nice = -10  # default",
            "[log]",
            "level = \"debug\"  # --log-level",
            "bpf_level = \"off\"  # default",
            "endpoint = \"http://env:4318\"  # OTEL_EXPORTER_OTLP_ENDPOINT",
            "timeout = \"1s 500ms\"  # OTEL_EXPORTER_OTLP_TIMEOUT",
            "[export.resource_attributes]",
            "\"deployment.environment.name\" = \"prod\"  # config.toml:6",
            "rack = \"8\"  # OTEL_RESOURCE_ATTRIBUTES",
            "row = \"2\"  # OTEL_RESOURCE_ATTRIBUTES",
            "[export.headers]",
            "authorization = \"(hidden)\"  # OTEL_EXPORTER_OTLP_HEADERS",
        ] {
            assert!(text.lines().any(|it| it == line), "{line:?} is not in\n{text}");
        }
        assert!(!text.contains("s3cret") && !text.contains("x-file"), "{text}");
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let mut setup = Setup::new(include_str!("../../../otel-config/hvsampler.toml"));
        assert_eq!(Setup::new(&setup.printed()).examined().config, setup.examined().config);
        setup = Setup::new(
            "start_delay = '3s'\n\
             guests = { allow = ['name=web-*', 'id=7-*'], labels = [{ match = ['name=a'], set = { t = 'x' } }] }\n\
             [export]\n\
             metrics_endpoint = 'https://h/in'\n\
             vm_attributes = ['labels', 'name']\n\
             families_off = ['hypervisor.vm.exit*']\n\
             resource_attributes = { \"a\\\"b\" = \"line\\nline\", \"\" = \"\" }\n\
             [export.tls]\n\
             ca_certificate = '/ca.pem'\n",
        );
        let again = Setup::new(&setup.printed()).examined();
        assert!(again.problems.is_empty(), "{:?}\n{}", again.problems, setup.printed());
        assert_eq!(again.config, setup.examined().config);
    }

    #[test]
    fn what_hides_a_secret_is_not_taken_for_one() {
        let setup =
            Setup::new("[export]\nheaders = { a = 's3cret' }\nmetrics_endpoint = 'https://h/a?t=s3cret'");
        let text = setup.printed();
        assert!(!text.contains("s3cret"), "{text}");
        let problems = Setup::new(&text).examined().problems;
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn every_problem_is_said() {
        let setup = Setup::new(
            "intervall = '1s'\nnice = 99\n[export]\ntimeout = '0s'\nqueue_bytes = 1\ntls.client_key = 3\n",
        );
        let (text, can_be_used) = setup.checked();
        let lines: Vec<_> = text.lines().collect();
        for (line, begin) in lines.iter().zip([
            "FAIL  config.toml:",
            "FAIL  config.toml:",
            "FAIL  config.toml:",
            "FAIL  config.toml:4: export.timeout: is zero",
            "FAIL  config.toml:5: export.queue_bytes: 1 is too little",
            "The configuration cannot be used",
        ]) {
            assert!(line.starts_with(begin), "{line:?} is not {begin:?}");
        }
        for said in [
            ":1: intervall: no such key",
            ":2: nice: 99 is no nice value",
            ":6: export.tls.client_key: has the wrong type",
        ] {
            assert!(text.contains(said), "{said:?} is not in\n{text}");
        }
        assert!(lines.len() == 6 && !can_be_used, "{text}");
        let error = print(&setup.examined()).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 5, "{error}");
    }

    #[test]
    fn secrets_in_files_are_read_and_not_shown() {
        use std::os::unix::fs::PermissionsExt as _;
        let setup = Setup::new("");
        let secret = setup.dir.path().join("token");
        fs::write(&secret, "Bearer s3cret\n").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "[export]\nendpoint = 'http://h'\nheaders = {{ authorization = {{ file = '{}' }} }}",
            secret.display()
        );
        fs::write(setup.path(), text).unwrap();
        assert!(setup.checked().1 && setup.printed().contains("file = \"token\"  # config.toml:3"));
        assert!(!setup.printed().contains("s3cret"), "{}", setup.printed());
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
        let (text, can_be_used) = setup.checked();
        assert!(text.starts_with("FAIL  token: others may read or write") && !can_be_used, "{text}");
        fs::remove_file(&secret).unwrap();
        let (text, can_be_used) = setup.checked();
        assert!(text.starts_with("FAIL  token: cannot be read") && !can_be_used, "{text}");
    }

    #[test]
    fn files_that_are_missing_are_said() {
        let setup = Setup::new("[export]\nendpoint = 'https://h'\ntls.ca_certificate = '/none/ca.pem'");
        let (text, can_be_used) = setup.checked();
        assert!(text.starts_with("FAIL  /none/ca.pem: ") && !can_be_used, "{text}");
        let (text, can_be_used) = Setup::new("").checked();
        assert!(text == "The configuration can be used.\n" && can_be_used);
    }

    #[test]
    fn a_file_that_is_no_toml_is_one_problem() {
        let (text, can_be_used) = Setup::new("interval = ").checked();
        assert!(
            text.starts_with("FAIL  config.toml:1: ") && text.lines().count() == 2 && !can_be_used,
            "{text}"
        );
    }
}
