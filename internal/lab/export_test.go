package lab

// What the tests of package lab_test look into.
var (
	ParseOneLineSources = parseOneLineSources
	ParseDeb822Sources  = parseDeb822Sources
	MachineMirror       = machineMirror
	ChooseSource        = chooseSource
	CompareVersions     = compareVersions
	ShellQuote          = shellQuote
	Exactly             = exactly
	LastLines           = lastLines
	NewTailBuffer       = newTailBuffer
	ConsoleTail         = consoleTail
	LockCache           = lockCache
	TakeSlot            = takeSlot
	MemoryDir           = memoryDir
)

// LostOptions is kernelFragment.lost.
func LostOptions(fragment, config string) []string {
	return kernelFragment{text: []byte(fragment)}.lost([]byte(config))
}

// URI, Suite and SignedBy show an apt source.
func (s aptSource) URI() string      { return s.uri }
func (s aptSource) Suite() string    { return s.suite }
func (s aptSource) SignedBy() string { return s.signedBy }
func (s aptSource) Trusted() bool    { return s.trusted }

// MarkScanner is markScanner for a nonce.
type MarkScanner struct{ markScanner }

func NewMarkScanner(nonce string) *MarkScanner {
	return &MarkScanner{markScanner{head: []byte(markHead + nonce + " ")}}
}

func (s *MarkScanner) Feed(piece []byte) ([]byte, int, bool) { return s.feed(piece) }
func (s *MarkScanner) Rest() []byte                          { return s.rest() }
