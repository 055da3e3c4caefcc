//! The keys that the S3 adapter would use, for other services of AWS: one way to find them, whoever asks.

use object_store::aws::AwsCredentialProvider;

use super::profile::Keys;
use super::{DEFAULT_REGION, S3Config, S3Store};

/// Credentials and region, from where [`S3Config::from_env`] and [`S3Store::open`] take them.
#[derive(Clone, Debug)]
pub struct AwsAccess {
    pub region: String,
    provider: AwsCredentialProvider,
}

impl AwsAccess {
    /// `region`: overrides the environment's.
    ///
    /// # Errors
    /// What is wrong with the profile, if the keys must come from there.
    pub fn from_env(region: Option<&str>) -> Result<AwsAccess, String> {
        // No bucket is spoken to; the client needs a name.
        let mut config = S3Config::from_env("none", "")?;
        config.region = region.map(str::to_owned).or(config.region);
        let region = config.region.clone().unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let store = S3Store::open(config)?;
        Ok(AwsAccess { region, provider: store.client.credentials().clone() })
    }

    /// Keys that are valid for some minutes at least; temporary ones are renewed in time.
    ///
    /// # Errors
    /// Why there are none, with what to do.
    pub async fn keys(&self) -> Result<Keys, String> {
        match self.provider.get_credential().await {
            Ok(keys) => {
                Ok(Keys { id: keys.key_id.clone(), secret: keys.secret_key.clone(), token: keys.token.clone() })
            }
            Err(error) => Err(format!(
                "no credentials: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role"
            )),
        }
    }
}
