package wsbridge_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if variant := os.Getenv(idleVariant); variant != "" {
		idleServer(variant)
		return
	}
	goleak.VerifyTestMain(m)
}
