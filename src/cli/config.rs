//! `alluvium config`: the effective settings.

use serde_json::{Value, json};

use super::{Failure, render};
use crate::config::table::{SETTINGS, Setting};
use crate::config::{Loaded, Settings};

/// Prints all settings with value, unit, source, default and meaning.
pub fn print(loaded: &Loaded, as_json: bool) -> Result<(), Failure> {
    let defaults = Settings::default();
    if as_json {
        let rows: Vec<Value> = SETTINGS
            .iter()
            .map(|setting| {
                json!({
                    "name": setting.name,
                    "value": (setting.show)(&loaded.settings),
                    "unit": setting.unit.name(),
                    "source": loaded.source(setting.name).to_string(),
                    "default": (setting.show)(&defaults),
                    "variable": setting.variable(),
                    "description": setting.description,
                })
            })
            .collect();
        print_line(&format!("{:#}", Value::Array(rows)));
        return Ok(());
    }
    let shown = |setting: &Setting, settings: &Settings| (setting.show)(settings).unwrap_or_else(|| "-".to_owned());
    let mut rows = vec![["name", "value", "unit", "source", "default", "meaning"].map(str::to_owned).to_vec()];
    for setting in SETTINGS {
        rows.push(vec![
            setting.name.to_owned(),
            shown(setting, &loaded.settings),
            setting.unit.name().to_owned(),
            loaded.source(setting.name).to_string(),
            shown(setting, &defaults),
            setting.description.to_owned(),
        ]);
    }
    super::print(&render::table(&rows));
    Ok(())
}

fn print_line(text: &str) {
    super::print(&format!("{text}\n"));
}
