package main

import "slices"

// scenarios are all of them, in the order of the report.
func scenarios() []scenario {
	return slices.Concat(
		metadataScenarios(),
		topicScenarios(),
		configScenarios(),
		produceScenarios(),
		fetchScenarios(),
		groupScenarios(),
		offsetScenarios(),
		lifecycleScenarios(),
		securityScenarios(),
		limitScenarios(),
		versionScenarios(),
		generatedScenarios(),
		requestScenarios(),
	)
}
