package plan

import (
	"fmt"
	"strconv"
	"strings"
)

// Mode is what --chmod sets: a number, or clauses as chmod(1) reads them.
type Mode struct {
	octal   bool
	bits    uint32
	clauses []clause
}

// clause is one change: of whom, how and what.
type clause struct {
	who  uint32 // the bits that it may change: 04700, 02070, 0007 and 01000
	op   byte   // + - =
	perm uint32 // r, w, x for all three, 07000 for s and t
	x    bool   // X: x for directories, and files that anyone may execute
	copy byte   // u, g or o: what these have
}

// ParseMode reads a --chmod. Where no one is named, all are meant: there is no
// umask in a build.
func ParseMode(s string) (Mode, error) {
	if n, err := strconv.ParseUint(s, 8, 32); err == nil && n <= 0o7777 {
		return Mode{octal: true, bits: uint32(n)}, nil
	}
	if s == "" || strings.Trim(s, "0123456789") == "" {
		return Mode{}, fmt.Errorf("invalid chmod parameter: '%v'. it should be octal string and between 0 and 07777", s)
	}
	var m Mode
	for text := range strings.SplitSeq(s, ",") {
		clauses, ok := parseClauses(text)
		if !ok {
			return Mode{}, fmt.Errorf("invalid chmod parameter: '%v'. %q is not of the form u+rwX", s, text)
		}
		m.clauses = append(m.clauses, clauses...)
	}
	return m, nil
}

// Octal tells whether the mode replaces any other.
func (m Mode) Octal() bool { return m.octal }

// Apply changes the mode of a file or directory: permission bits with 04000,
// 02000 and 01000.
func (m Mode) Apply(mode uint32, dir bool) uint32 {
	if m.octal {
		return m.bits
	}
	for _, c := range m.clauses {
		mode = c.apply(mode, dir)
	}
	return mode
}

func (c clause) apply(mode uint32, dir bool) uint32 {
	perm := c.perm
	if c.x && (dir || mode&0o111 != 0) {
		perm |= 0o111
	}
	switch c.copy {
	case 'u':
		perm |= (mode >> 6 & 7) * 0o111
	case 'g':
		perm |= (mode >> 3 & 7) * 0o111
	case 'o':
		perm |= (mode & 7) * 0o111
	}
	perm &= c.who
	switch c.op {
	case '+':
		return mode | perm
	case '-':
		return mode &^ perm
	}
	cleared := c.who
	if dir { // chmod(1) keeps a directory's set-id bits unless they are named
		cleared &^= 0o6000
	}
	return mode&^cleared | perm
}

// parseClauses reads who, then one or more of an operator and permissions.
func parseClauses(s string) (out []clause, ok bool) {
	who := uint32(0)
	for ; s != "" && strings.IndexByte("ugoa", s[0]) >= 0; s = s[1:] {
		who |= map[byte]uint32{'u': 0o4700, 'g': 0o2070, 'o': 0o1007, 'a': 0o7777}[s[0]]
	}
	if who == 0 {
		who = 0o7777
	}
	for s != "" {
		c := clause{who: who, op: s[0]}
		if strings.IndexByte("+-=", c.op) < 0 {
			return nil, false
		}
		s = c.readPerm(s[1:])
		out = append(out, c)
	}
	return out, len(out) > 0
}

// readPerm reads permissions up to the next operator, or one of u, g, o. It
// gives what is left, beginning with what it can't read.
func (c *clause) readPerm(s string) string {
	if s != "" && strings.IndexByte("ugo", s[0]) >= 0 {
		c.copy = s[0]
		return s[1:]
	}
	for ; s != ""; s = s[1:] {
		switch s[0] {
		case 'r':
			c.perm |= 0o444
		case 'w':
			c.perm |= 0o222
		case 'x':
			c.perm |= 0o111
		case 'X':
			c.x = true
		case 's':
			c.perm |= 0o6000
		case 't':
			c.perm |= 0o1000
		default:
			return s
		}
	}
	return s
}
