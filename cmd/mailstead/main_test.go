package main

import (
	"os"
	"testing"
)

// asMailstead makes the test binary be mailstead: child processes of the tests
// are then what is tested, with the race detector.
const asMailstead = "RUN_AS_MAILSTEAD"

func TestMain(m *testing.M) {
	if os.Getenv(asMailstead) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}
