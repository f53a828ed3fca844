package source

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// pattern is one line of an ignore file. It matches the same paths as a pattern of
// moby/patternmatcher (a fuzz test compares them), except that "|", "{" and "}" beside a
// wildcard are literal. It needs no regular expression for few and simple wildcards;
// regular expressions are most of the cost of filtering a large context.
type pattern struct {
	text      string
	exclusion bool // "!": matching files are included again

	kind   kind
	fixed  string         // exact, prefix, suffix
	tokens []token        // wild
	regexp *regexp.Regexp // expression

	lead []pattern // its elements, up to the first one that can match several
	open bool      // it has such an element
}

type kind byte

const (
	exact kind = iota
	prefix
	suffix
	wild
	expression
)

// token is a literal text or a wildcard.
type token struct {
	op  byte // 'l' text, '?' one character, '*' many characters, 'd' any directories, 'a' all to the end; '?' and '*' do not match '/'
	lit string
}

// compile compiles one cleaned line without its "!".
func compile(text string) (pattern, error) {
	p := pattern{text: text}
	p.kind = p.classify()
	if p.kind == wild && (strings.ContainsAny(text, `[]\^`) || !utf8.ValidString(text)) {
		p.kind = expression
	}
	switch p.kind {
	case exact:
		p.fixed = text
	case prefix:
		p.fixed = text[:len(text)-2]
	case suffix:
		p.fixed = text[2:]
	case wild:
		p.tokens = tokenize(text)
		if countStars(p.tokens) > 3 { // backtracking would cost too much
			p.kind = expression
		}
	}
	if p.kind == expression {
		re, err := regexp.Compile(expressionOf(text))
		if err != nil {
			return p, fmt.Errorf("pattern %q: %w", text, err)
		}
		p.regexp = re
	}
	return p, nil
}

// classify returns the kind of the pattern like patternmatcher, including its surprising
// rules: "**x" is a plain suffix.
func (p *pattern) classify() kind {
	rest, doubled := strings.CutPrefix(p.text, "**")
	rest = strings.TrimPrefix(rest, "/")
	switch {
	case doubled && !strings.ContainsAny(rest, `*?[]\`):
		return suffix
	case doubled:
		return wild
	case !strings.ContainsAny(p.text, `*?[]\`):
		return exact
	}
	if head, ok := strings.CutSuffix(p.text, "**"); ok && !strings.ContainsAny(head, `*?[]\`) {
		return prefix
	}
	return wild
}

// tokenize splits a pattern without classes and escapes.
func tokenize(text string) (out []token) {
	for text != "" {
		switch {
		case strings.HasPrefix(text, "**"):
			text = strings.TrimPrefix(text[2:], "/")
			if text == "" {
				return append(out, token{op: 'a'})
			}
			out = append(out, token{op: 'd'})
		case text[0] == '*' || text[0] == '?':
			out = append(out, token{op: text[0]})
			text = text[1:]
		default:
			n := strings.IndexAny(text, "*?")
			if n < 0 {
				n = len(text)
			}
			out = append(out, token{op: 'l', lit: text[:n]})
			text = text[n:]
		}
	}
	return out
}

func countStars(tokens []token) (n int) {
	for _, t := range tokens {
		if t.op == '*' || t.op == 'd' {
			n++
		}
	}
	return n
}

// expressionOf translates a pattern rune by rune, like patternmatcher.
func expressionOf(text string) string {
	var b strings.Builder
	b.WriteByte('^')
	runes := []rune(text)
	for i := 0; i < len(runes); i++ {
		switch ch := runes[i]; {
		case ch == '*' && i+1 < len(runes) && runes[i+1] == '*':
			i++
			if i+1 < len(runes) && runes[i+1] == '/' {
				i++
			}
			if i+1 == len(runes) {
				b.WriteString(".*")
			} else {
				b.WriteString("(.*/)?")
			}
		case ch == '*':
			b.WriteString("[^/]*")
		case ch == '?':
			b.WriteString("[^/]")
		case strings.ContainsRune(`.+()|{}$`, ch):
			b.WriteString(`\` + string(ch))
		case ch == '\\' && i+1 < len(runes):
			i++
			b.WriteString(`\` + string(runes[i]))
		default:
			b.WriteRune(ch)
		}
	}
	return b.String() + "$"
}

func (p *pattern) match(path string) bool {
	switch p.kind {
	case exact:
		return path == p.fixed
	case prefix:
		return strings.HasPrefix(path, p.fixed)
	case suffix:
		return strings.HasSuffix(path, p.fixed) ||
			p.fixed != "" && p.fixed[0] == '/' && path == p.fixed[1:]
	case wild:
		if last := p.tokens[len(p.tokens)-1]; last.op == 'l' && !strings.HasSuffix(path, last.lit) {
			return false
		}
		return matchTokens(p.tokens, path)
	}
	return p.regexp.MatchString(path)
}

func matchTokens(tokens []token, s string) bool {
	for i, t := range tokens {
		switch t.op {
		case 'l':
			if !strings.HasPrefix(s, t.lit) {
				return false
			}
			s = s[len(t.lit):]
		case '?':
			if s == "" || s[0] == '/' {
				return false
			}
			_, n := utf8.DecodeRuneInString(s)
			s = s[n:]
		case '*':
			return matchStar(tokens[i+1:], s)
		case 'd':
			return matchDirs(tokens[i+1:], s)
		case 'a':
			return !strings.Contains(s, "\n") // "." of an expression does not match a newline
		}
	}
	return s == ""
}

func matchStar(rest []token, s string) bool {
	if len(rest) == 0 {
		return !strings.Contains(s, "/")
	}
	for {
		if matchTokens(rest, s) {
			return true
		}
		if s == "" || s[0] == '/' {
			return false
		}
		_, n := utf8.DecodeRuneInString(s)
		s = s[n:]
	}
}

func matchDirs(rest []token, s string) bool {
	if matchTokens(rest, s) {
		return true
	}
	for i := 0; i < len(s) && s[i] != '\n'; i++ {
		if s[i] == '/' && matchTokens(rest, s[i+1:]) {
			return true
		}
	}
	return false
}
