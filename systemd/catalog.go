package systemd

import (
	_ "embed" // the catalog
)

// Catalog is the message catalog: an explanation for every kind of event.
//
//go:embed files/scrubd.catalog
var Catalog string
