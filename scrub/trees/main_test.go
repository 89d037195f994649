package trees

import (
	"testing"

	"github.com/scrubd/scrubd/xfile/xfiletest"
)

func TestMain(m *testing.M) { xfiletest.Main(m) }
