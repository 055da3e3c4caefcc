package main

import "slices"

// defaults are the cases of a broker with its default settings.
var defaults = slices.Concat(connectionCases, frameCases, readingCases, requestCases)
