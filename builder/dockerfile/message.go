package dockerfile

import (
	"bufio"
	"bytes"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// parseError returns an error of BuildKit's parser with its position.
func (f *File) parseError(err error) error {
	msg := message(err, string(f.Text))
	var at *parser.LocationError
	var ranges []Range
	if errors.As(err, &at) && len(at.Locations) > 0 {
		ranges = fromRanges(at.Locations[0])
	}
	if directiveError(msg) { // counted from 0
		for i := range ranges {
			ranges[i] = Range{ranges[i].First + 1, ranges[i].Last + 1}
		}
	}
	if strings.HasPrefix(msg, "dockerfile line greater than ") { // off by one
		ranges = f.firstLong()
	}
	return f.At(InBuildKit(errors.New(msg), original(err, msg)), ranges...)
}

// original returns the text of a parser error with the suggestions of msg, its message.
func original(err error, msg string) string {
	text := err.Error()
	line, inner, ok := strings.Cut(text, ": ")
	if !ok || !strings.HasPrefix(line, parsePrefix) {
		line, inner = "", text
	} else {
		line += ": "
	}
	if strings.HasPrefix(inner, "unknown instruction: ") || strings.HasPrefix(inner, "unknown flag: --") {
		inner = strings.Replace(msg, "(did you mean --", "(did you mean ", 1)
	}
	return line + inner
}

// parsePrefix starts the errors of BuildKit's parser that have a line.
const parsePrefix = "dockerfile parse error on line "

// firstLong finds the line that is too long for the parser.
func (f *File) firstLong() []Range {
	n := 0
	for line := range bytes.Lines(f.Text) {
		if n++; len(bytes.TrimSuffix(line, []byte("\n"))) >= bufio.MaxScanTokenSize-1 {
			return []Range{{n, n}}
		}
	}
	return nil
}

func directiveError(msg string) bool {
	return strings.HasPrefix(msg, "invalid escape token") || strings.HasSuffix(msg, "parser directive can be used")
}

// message returns the text of a parser error without the line number, and with
// deterministic suggestions: the parser's depend on the order of maps.
func message(err error, text string) string {
	msg := err.Error()
	if strings.HasPrefix(msg, parsePrefix) {
		_, msg, _ = strings.Cut(msg, ": ")
	}
	var unknown *instructions.UnknownInstructionError
	if errors.As(err, &unknown) {
		word := unknown.Instruction
		guess := guess(strings.ToLower(word), slices.Sorted(maps.Keys(command.Commands)))
		if word == strings.ToUpper(word) {
			guess = strings.ToUpper(guess)
		}
		return didYouMean("unknown instruction: "+word, guess)
	}
	if flag, ok := strings.CutPrefix(msg, "unknown flag: --"); ok {
		flag, _, _ = strings.Cut(flag, " ")
		if known := guess(flag, flagsAt(err, text)); known != "" {
			return didYouMean("unknown flag: --"+flag, "--"+known)
		}
		return "unknown flag: --" + flag
	}
	return plainly(msg)
}

// Errors about a value that must be one of a few.
var choices = []struct {
	form    *regexp.Regexp
	options []string
}{
	{regexp.MustCompile(`^invalid network mode "(.*)"$`), []string{"default", "none", "host"}},
	{regexp.MustCompile(`^security "(.*)" is not valid$`), []string{"sandbox", "insecure"}},
}

var (
	numberNoise   = regexp.MustCompile(`strconv\.(?:ParseInt|ParseUint|Atoi): parsing ("[^"]*"): .*`)
	boolNoise     = regexp.MustCompile(`strconv\.ParseBool: parsing ("[^"]*"): .*`)
	durationNoise = regexp.MustCompile(`^time: .*duration ("[^"]*")$`)
)

// plainly removes Go terms from an error and adds the values that are allowed.
func plainly(msg string) string {
	for _, c := range choices {
		if m := c.form.FindStringSubmatch(msg); m != nil {
			return msg + ": want " + strings.Join(c.options, ", ")
		}
	}
	if msg == "no build stage in current context" {
		return msg + ": only ARG can come before the first FROM"
	}
	msg = numberNoise.ReplaceAllString(msg, "$1 is not a number")
	msg = boolNoise.ReplaceAllString(msg, "$1 is neither true nor false")
	return durationNoise.ReplaceAllString(msg, "$1 is not a duration, such as 30s")
}

func didYouMean(msg, guess string) string {
	if guess == "" {
		return msg
	}
	return msg + " (did you mean " + guess + "?)"
}

// guess returns the option with the same letters as name, or else a similar one.
func guess(word string, names []string) string {
	for _, name := range names {
		if letters(name) == letters(word) {
			return name
		}
	}
	return Suggest(word, names)
}

// letters returns the letters of a word, sorted.
func letters(word string) string {
	b := []byte(word)
	slices.Sort(b)
	return string(b)
}

// flagsAt returns the flags of the instruction with the error.
func flagsAt(err error, text string) []string {
	var at *parser.LocationError
	if !errors.As(err, &at) || len(at.Locations) == 0 || len(at.Locations[0]) == 0 {
		return nil
	}
	lines := strings.Split(text, "\n")
	n := at.Locations[0][0].Start.Line
	if n < 1 || n > len(lines) {
		return nil
	}
	words := strings.Fields(lines[n-1])
	if len(words) > 1 && strings.EqualFold(words[0], command.Onbuild) {
		words = words[1:]
	}
	if len(words) == 0 {
		return nil
	}
	return flagsOf(strings.ToLower(words[0]))
}

func flagsOf(instruction string) []string {
	switch instruction {
	case command.Add:
		return []string{"checksum", "chmod", "chown", "exclude", "keep-git-dir", "link", "unpack"}
	case command.Copy:
		return []string{"chmod", "chown", "exclude", "from", "link", "parents"}
	case command.From:
		return []string{"platform"}
	case command.Healthcheck:
		return []string{"interval", "retries", "start-interval", "start-period", "timeout"}
	case command.Run:
		return []string{"device", "mount", "network", "security"}
	}
	return nil
}
