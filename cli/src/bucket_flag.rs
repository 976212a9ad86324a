//! `type=s3` of `--cache-from` and `--cache-to` (R-CEXP-5): the attributes as BuildKit names them, and what the environment says
//! where they are left out.
//!
//! Of Amazon's own ways to a key there are the attributes, the variables and the files of profiles, and then whoever lends one: the
//! token of a CI or of Kubernetes (`AWS_WEB_IDENTITY_TOKEN_FILE`), a container's service, a machine's. Single sign-on and roles of
//! other profiles are not looked at.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use kiln_executor::BucketCache;
use kiln_registry::{AccessKey, BucketSettings, ContainerToken, KeyLender};

use crate::cache_flags::Attributes;
use crate::config::Config;
use crate::failure::Failure;

/// The name a cache has if it is given none. BuildKit's own caches have another format and `buildkit` for a name.
const NAME: &str = "kiln";
/// Region of servers that have none.
const NO_REGION: &str = "us-east-1";

/// A bucket as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BucketFlag {
    bucket: Option<String>,
    region: Option<String>,
    endpoint: Option<String>,
    path_style: bool,
    key: Option<AccessKey>,
    manifests: String,
    blobs: String,
    names: Vec<String>,
    touch_refresh: Duration,
    parallelism: usize,
}

/// What Amazon's programs have in files: keys and settings by profile.
type Profile = BTreeMap<String, String>;

impl BucketFlag {
    pub(crate) fn read(attributes: &mut Attributes) -> Result<Self, String> {
        let prefix = attributes.take("prefix").unwrap_or_default();
        let mut place = |name, usual: &str| {
            let own = attributes.take(name).unwrap_or_else(|| usual.to_owned());
            proper(format!("{prefix}{own}"), name)
        };
        let (manifests, blobs) = (
            place("manifests_prefix", "manifests/")?,
            place("blobs_prefix", "blobs/")?,
        );
        let names = attributes.take("name").unwrap_or_else(|| NAME.to_owned());
        let names: Vec<String> = names.split(';').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) {
            return Err("`name` is a name, or several with `;` between them".to_owned());
        }
        for name in &names {
            proper(format!("{manifests}{name}"), "name")?;
        }
        Ok(Self {
            bucket: attributes.take("bucket").filter(|text| !text.is_empty()),
            region: attributes.take("region").filter(|text| !text.is_empty()),
            endpoint: attributes
                .take("endpoint_url")
                .filter(|text| !text.is_empty()),
            path_style: attributes.flag("use_path_style")?.unwrap_or(false),
            key: access_key(attributes)?,
            manifests,
            blobs,
            names,
            touch_refresh: touch_refresh(attributes)?,
            parallelism: parallelism(attributes)?,
        })
    }

    /// With what the environment says.
    pub(crate) fn resolve(&self, config: &Config) -> Result<BucketCache, Failure> {
        let variable = |name: &str| config.variable(name).filter(|text| !text.is_empty());
        let missing = |attribute: &str, variable: &str| {
            Failure::usage(format!(
                "a cache of type=s3 needs `{attribute}=`, or `{variable}`"
            ))
        };
        let profile = profile(config)?;
        let of_profile = |name: &str| profile.get(name).cloned();
        let endpoint = self.endpoint.clone();
        let endpoint = endpoint
            .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
            .or_else(|| variable("AWS_ENDPOINT_URL"));
        let region = self.region.clone();
        let region = region
            .or_else(|| variable("AWS_REGION"))
            .or_else(|| variable("AWS_DEFAULT_REGION"))
            .or_else(|| of_profile("region"))
            .or_else(|| endpoint.is_some().then(|| NO_REGION.to_owned()))
            .ok_or_else(|| missing("region", "AWS_REGION"))?;
        let bucket = self.bucket.clone().or_else(|| variable("AWS_BUCKET"));
        let key_of = |name: fn(&str) -> String, get: &dyn Fn(&str) -> Option<String>| {
            Some(AccessKey {
                id: get(&name("access_key_id"))?,
                secret: get(&name("secret_access_key"))?,
                session_token: get(&name("session_token")),
            })
        };
        let key = self.key.clone();
        let key = key
            .or_else(|| {
                key_of(
                    |name| format!("AWS_{}", name.to_ascii_uppercase()),
                    &variable,
                )
            })
            .or_else(|| key_of(|name| format!("aws_{name}"), &of_profile));
        let lenders = lenders(&region, &profile, &variable);
        Ok(BucketCache {
            settings: BucketSettings {
                lenders,
                name: bucket.ok_or_else(|| missing("bucket", "AWS_BUCKET"))?,
                region,
                endpoint,
                path_style: self.path_style,
                access_key: key,
            },
            manifests: self.manifests.clone(),
            blobs: self.blobs.clone(),
            names: self.names.clone(),
            touch_refresh: self.touch_refresh,
            parallelism: self.parallelism,
        })
    }
}

/// Who lends keys, as Amazon's programs look for them.
fn lenders(
    region: &str,
    profile: &Profile,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Vec<KeyLender> {
    let mut lenders = Vec::new();
    let of_amazon = || {
        let china = if region.starts_with("cn-") { ".cn" } else { "" };
        format!("https://sts.{region}.amazonaws.com{china}/")
    };
    let mut web_identity = |role: Option<String>, file: Option<String>, session: Option<String>| {
        lenders.extend(role.zip(file).map(|(role, file)| KeyLender::WebIdentity {
            role,
            token_file: file.into(),
            session: session.unwrap_or_else(|| "kiln".to_owned()),
            endpoint: variable("AWS_ENDPOINT_URL_STS").unwrap_or_else(of_amazon),
        }));
    };
    web_identity(
        variable("AWS_ROLE_ARN"),
        variable("AWS_WEB_IDENTITY_TOKEN_FILE"),
        variable("AWS_ROLE_SESSION_NAME"),
    );
    let of_profile = |name: &str| profile.get(name).cloned();
    web_identity(
        of_profile("role_arn"),
        of_profile("web_identity_token_file"),
        of_profile("role_session_name"),
    );
    let nearby = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let nearby = nearby.map(|path| format!("http://169.254.170.2{path}"));
    let container = nearby.or_else(|| variable("AWS_CONTAINER_CREDENTIALS_FULL_URI"));
    lenders.extend(container.map(|url| {
        KeyLender::Container {
            url,
            token: variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
                .map(|path| ContainerToken::File(path.into()))
                .or_else(|| {
                    variable("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(ContainerToken::Text)
                }),
        }
    }));
    let is_off = variable("AWS_EC2_METADATA_DISABLED");
    if !is_off.is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        let endpoint = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        let endpoint = endpoint.unwrap_or_else(|| "http://169.254.169.254".to_owned());
        lenders.push(KeyLender::Machine { endpoint });
    }
    lenders
}

/// An address has no other names: `a/../b` would be the object `b`.
fn proper(key: String, attribute: &str) -> Result<String, String> {
    match key.split('/').any(|part| matches!(part, "." | "..")) {
        true => Err(format!(
            "`{attribute}` and `prefix` have no parts `.` and `..`"
        )),
        false => Ok(key),
    }
}

fn access_key(attributes: &mut Attributes) -> Result<Option<AccessKey>, String> {
    let mut take = |name| attributes.take(name).filter(|text| !text.is_empty());
    let (id, secret) = (take("access_key_id"), take("secret_access_key"));
    let session_token = take("session_token");
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(Some(AccessKey {
            id,
            secret,
            session_token,
        })),
        (None, None) if session_token.is_none() => Ok(None),
        _ => Err("`access_key_id` and `secret_access_key` go together".to_owned()),
    }
}

fn touch_refresh(attributes: &mut Attributes) -> Result<Duration, String> {
    match attributes.take("touch_refresh") {
        None => Ok(Duration::from_secs(24 * 60 * 60)),
        Some(text) => kiln_parser::go_duration(&text)
            .ok_or_else(|| "`touch_refresh` is a duration such as `24h`".to_owned()),
    }
}

fn parallelism(attributes: &mut Attributes) -> Result<usize, String> {
    match attributes.take("upload_parallelism") {
        None => Ok(4),
        Some(text) => {
            let number = text.parse().ok();
            let number = number.filter(|number| (1..=64).contains(number));
            number.ok_or_else(|| "`upload_parallelism` is a number from 1 to 64".to_owned())
        }
    }
}

/// What the files say of the profile that is chosen. One that was asked for must be there.
fn profile(config: &Config) -> Result<Profile, Failure> {
    let variable = |name: &str| config.variable(name).filter(|text| !text.is_empty());
    let asked = variable("AWS_PROFILE");
    let name = asked.clone().unwrap_or_else(|| "default".to_owned());
    let home = |file| variable("HOME").map(|home| PathBuf::from(home).join(".aws").join(file));
    let file = |variable_name, usual| {
        let path = variable(variable_name).map(PathBuf::from);
        let text = path.or_else(|| home(usual)).map(fs::read_to_string);
        text.and_then(Result::ok).unwrap_or_default()
    };
    let of_config = match name.as_str() {
        "default" => name.clone(),
        name => format!("profile {name}"),
    };
    let settings = section(&file("AWS_CONFIG_FILE", "config"), &of_config);
    let keys = section(&file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), &name);
    if let (Some(asked), None, None) = (asked, &settings, &keys) {
        return Err(Failure::usage(format!(
            "`AWS_PROFILE` is `{asked}`, and there is no such profile"
        ))
        .help("profiles are in `~/.aws/credentials` and `~/.aws/config`"));
    }
    let mut profile = settings.unwrap_or_default();
    profile.extend(keys.unwrap_or_default());
    Ok(profile)
}

/// The settings below `[name]`. Those of services within it, which are indented, are not looked at.
fn section(text: &str, name: &str) -> Option<Profile> {
    let mut found: Option<Profile> = None;
    let mut inside = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with(['#', ';']) || line.starts_with([' ', '\t']) {
            continue;
        }
        if let Some(header) = trimmed
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            inside = header.trim() == name;
            if inside {
                found.get_or_insert_default();
            }
        } else if let (true, Some((key, value))) = (inside, trimmed.split_once('=')) {
            let key = key.trim().to_ascii_lowercase();
            found
                .get_or_insert_default()
                .insert(key, value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::Environment;

    fn resolved(text: &str, variables: &[(&str, &str)]) -> Result<BucketCache, String> {
        let mut attributes = Attributes::read(text)?;
        let flag = BucketFlag::read(&mut attributes)?;
        attributes.end()?;
        let config = Config::resolve(Some("/r".into()), Environment::of(variables)).unwrap();
        flag.resolve(&config)
            .map_err(|failure| failure.reports[0].message.clone())
    }

    #[test]
    fn attributes_are_buildkits() {
        let cache = resolved(
            "type=s3,bucket=b,region=r,name=a;b,prefix=p/,blobs_prefix=bl/,manifests_prefix=m/,endpoint_url=http://h,use_path_style=true,access_key_id=i,secret_access_key=s,session_token=t,upload_parallelism=2,touch_refresh=1h",
            &[
                ("AWS_ACCESS_KEY_ID", "no"),
                ("AWS_REGION", "no"),
                ("AWS_EC2_METADATA_DISABLED", "true"),
            ],
        )
        .unwrap();
        let expected = BucketCache {
            settings: BucketSettings {
                name: "b".into(),
                region: "r".into(),
                endpoint: Some("http://h".into()),
                path_style: true,
                access_key: Some(AccessKey {
                    id: "i".into(),
                    secret: "s".into(),
                    session_token: Some("t".into()),
                }),
                lenders: Vec::new(),
            },
            manifests: "p/m/".into(),
            blobs: "p/bl/".into(),
            names: vec!["a".into(), "b".into()],
            touch_refresh: Duration::from_secs(3600),
            parallelism: 2,
        };
        assert_eq!(cache, expected);
        assert_eq!(cache.to_string(), "s3://b/p/m/a");
    }

    #[test]
    fn what_is_left_out_is_in_the_environment() {
        let variables = [
            ("AWS_BUCKET", "b"),
            ("AWS_REGION", "r"),
            ("AWS_ACCESS_KEY_ID", "i"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
        ];
        let settings = resolved("type=s3", &variables).unwrap().settings;
        assert_eq!((&*settings.name, &*settings.region), ("b", "r"));
        assert_eq!(settings.access_key.unwrap().secret, "s");
        assert_eq!(settings.endpoint, None);
        let minio = [("AWS_ENDPOINT_URL_S3", "http://minio:9000")];
        let settings = resolved("type=s3,bucket=b", &minio).unwrap().settings;
        assert_eq!(settings.region, "us-east-1");
        assert_eq!(settings.access_key, None);
    }

    #[test]
    fn whoever_lends_keys_is_found_as_amazons_programs_find_them() {
        let lenders = |variables: &[(&str, &str)]| {
            let cache = resolved("type=s3,bucket=b,region=eu-west-1", variables).unwrap();
            cache.settings.lenders
        };
        let machine = |endpoint: &str| KeyLender::Machine {
            endpoint: endpoint.to_owned(),
        };
        assert_eq!(lenders(&[]), [machine("http://169.254.169.254")]);
        let off = ("AWS_EC2_METADATA_DISABLED", "TRUE");
        assert_eq!(lenders(&[off]), []);
        let web = [
            off,
            ("AWS_ROLE_ARN", "arn"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"),
        ];
        let expected = KeyLender::WebIdentity {
            role: "arn".to_owned(),
            token_file: "/t".into(),
            session: "kiln".to_owned(),
            endpoint: "https://sts.eu-west-1.amazonaws.com/".to_owned(),
        };
        assert_eq!(lenders(&web), [expected]);
        assert_eq!(lenders(&web[..2]), [], "a role alone is nothing");
        let container = [off, ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x")];
        let expected = KeyLender::Container {
            url: "http://169.254.170.2/v2/x".to_owned(),
            token: None,
        };
        assert_eq!(lenders(&container), [expected]);
    }

    #[test]
    fn profiles_are_read_as_amazons_programs_write_them() {
        let text = "# mine\n[default]\naws_access_key_id = D\n\n[work]\nAWS_ACCESS_KEY_ID=W\naws_secret_access_key = a=b+c\ns3 =\n  addressing_style = path\n[ work ]\nregion = eu\n";
        let work = section(text, "work").unwrap();
        let value = |name: &str| work.get(name).map(String::as_str);
        assert_eq!(value("aws_access_key_id"), Some("W"));
        assert_eq!(value("aws_secret_access_key"), Some("a=b+c"));
        assert_eq!(value("region"), Some("eu"));
        assert_eq!(value("addressing_style"), None);
        assert_eq!(section(text, "other"), None);
        let unknown = [("AWS_PROFILE", "none"), ("AWS_CONFIG_FILE", "/dev/null")];
        let said = resolved("type=s3,bucket=b,region=r", &unknown).unwrap_err();
        assert!(said.contains("no such profile"), "{said}");
    }

    #[test]
    fn mistakes_are_told_without_secrets() {
        for (text, said) in [
            ("type=s3,region=r", "`bucket=`"),
            ("type=s3,bucket=b", "`region=`"),
            ("type=s3,bucket=b,region=r,access_key_id=i", "go together"),
            ("type=s3,bucket=b,region=r,session_token=TOP", "go together"),
            (
                "type=s3,bucket=b,region=r,upload_parallelism=0",
                "from 1 to 64",
            ),
            ("type=s3,bucket=b,region=r,touch_refresh=x", "duration"),
            ("type=s3,bucket=b,region=r,prefix=../", "`..`"),
            ("type=s3,bucket=b,region=r,name=..", "`..`"),
            ("type=s3,bucket=b,region=r,name=a;", "name"),
            ("type=s3,bucket=b,region=r,colour=red", "colour"),
            (
                "type=s3,bucket=b,region=r,secret_access_key=A,TOP",
                "an attribute",
            ),
        ] {
            let error = resolved(text, &[]).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
            assert!(!error.contains("TOP"), "{text}: {error}");
        }
    }
}
