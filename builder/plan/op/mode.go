package op

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	mode "github.com/tonistiigi/dchapes-mode"
)

// Mode is the value of --chmod: an octal number, or symbolic clauses close to
// those of chmod(1). The parser is BuildKit's, whose results differ from
// chmod(1) in rare cases.
type Mode struct {
	octal bool
	bits  uint32
	set   mode.Set
}

// ParseMode parses a --chmod. A clause without u, g, o or a applies to all:
// builds have no umask.
func ParseMode(s string) (Mode, error) {
	if n, err := strconv.ParseUint(s, 8, 32); err == nil && n <= 0o7777 {
		return Mode{octal: true, bits: uint32(n)}, nil
	}
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		return Mode{}, fmt.Errorf("invalid chmod parameter: '%v'. it should be octal string and between 0 and 07777", s)
	}
	set, err := mode.ParseWithUmask(s, 0)
	if err != nil {
		return Mode{}, fmt.Errorf("invalid chmod parameter: '%v'. %q is not of the form u+rwX", s, culprit(s))
	}
	return Mode{set: set}, nil
}

// culprit returns the first malformed clause.
func culprit(s string) string {
	for text := range strings.SplitSeq(s, ",") {
		if _, err := mode.ParseWithUmask(text, 0); err != nil {
			return text
		}
	}
	return s
}

// Octal reports whether the mode is a number, which replaces the file's mode.
func (m Mode) Octal() bool { return m.octal }

// Apply returns the mode that a file or directory with the given bits gets. Bits
// are permissions and setuid (04000), setgid (02000) and sticky (01000).
func (m Mode) Apply(bits uint32, dir bool) uint32 {
	if m.octal {
		return m.bits
	}
	return fromFileMode(m.set.Apply(toFileMode(bits, dir)))
}

func toFileMode(bits uint32, dir bool) fs.FileMode {
	m := fs.FileMode(bits & 0o777)
	for i, flag := range special() {
		if bits&(0o4000>>i) != 0 {
			m |= flag
		}
	}
	if dir {
		m |= fs.ModeDir
	}
	return m
}

func fromFileMode(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	for i, flag := range special() {
		if m&flag != 0 {
			bits |= 0o4000 >> i
		}
	}
	return bits
}

// special returns the flags for the bits 04000, 02000 and 01000.
func special() [3]fs.FileMode {
	return [...]fs.FileMode{fs.ModeSetuid, fs.ModeSetgid, fs.ModeSticky}
}
