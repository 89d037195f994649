package lab

// Inner parts that the outside tests look at.
var (
	MkfsFeatures   = mkfsFeatures
	ParseMountOpts = parseMountOpts
)
