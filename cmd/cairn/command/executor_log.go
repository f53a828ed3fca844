package command

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/cairn-build/cairn/cmd/cairn/kaniko"
)

// asKaniko runs a command with the log and the exit status of kaniko.
func (p *Program) asKaniko(o *kaniko.Options, f func() error) error {
	if o.LogFormat == "json" {
		lines := &jsonLines{w: p.Stderr, now: time.Now}
		defer lines.flush()
		p.Stderr = lines
	}
	return kanikoStatus(p, f())
}

// jsonLines writes each line of a plain log as a JSON object, with the fields of kaniko's
// --log-format=json. Empty lines and rules are left out.
type jsonLines struct {
	w       io.Writer
	now     func() time.Time
	partial []byte
}

type jsonLine struct {
	Level string `json:"level"`
	Msg   string `json:"msg"`
	Time  string `json:"time"`
}

func (j *jsonLines) Write(b []byte) (int, error) {
	var out bytes.Buffer
	for line := range bytes.Lines(b) {
		j.partial = append(j.partial, line...)
		if bytes.HasSuffix(line, []byte("\n")) {
			j.end(&out)
		}
	}
	if _, err := j.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(b), nil
}

// flush writes a line that has no end.
func (j *jsonLines) flush() {
	var out bytes.Buffer
	j.end(&out)
	// The error cannot be reported: this is the log.
	_, _ = j.w.Write(out.Bytes())
}

func (j *jsonLines) end(out *bytes.Buffer) {
	text := strings.TrimRight(string(j.partial), " \r\n")
	j.partial = j.partial[:0]
	if strings.Trim(text, "-") == "" {
		return
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	level, text := level(text)
	// A structure of strings can be encoded.
	_ = e.Encode(jsonLine{level, text, j.now().UTC().Format(time.RFC3339)})
}

var (
	levelWord  = regexp.MustCompile(`^(error|warning|WARN): `)
	vertexWord = regexp.MustCompile(`^#\d+ (ERROR|WARN): `)
)

// level returns the level of a line, and the line without the word for it.
func level(line string) (level, text string) {
	names := map[string]string{"error": "error", "ERROR": "error", "warning": "warning", "WARN": "warning"}
	if m := levelWord.FindStringSubmatch(line); m != nil {
		return names[m[1]], line[len(m[0]):]
	}
	if m := vertexWord.FindStringSubmatch(line); m != nil {
		return names[m[1]], line
	}
	return "info", line
}
