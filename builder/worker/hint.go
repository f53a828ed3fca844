package worker

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/layer/listing"
)

// HintedError is the error of a command with a probable reason that its text does not
// tell.
type HintedError struct {
	Err  error
	Hint string
}

func (e *HintedError) Error() string { return e.Err.Error() }
func (e *HintedError) Unwrap() error { return e.Err }

// withHint adds the probable reason to the error of a RUN, if one is known. below is
// the tree that it ran in.
func (c *commands) withHint(ctx context.Context, err error, o op.Run, below *snapshot.Stack, v *progress.Vertex) error {
	if ctx.Err() != nil {
		return err
	}
	hint := ""
	switch script := crlfScript(ctx, o, below); {
	case script != "":
		hint = script + " has CRLF line ends, which shells take for a part of the text: convert it to LF (dos2unix; for git, eol=lf in .gitattributes)"
	case errors.Is(err, fs.ErrNotExist) && slices.Contains([]string{"/bin/sh", "/bin/bash"}, o.Args[0]) && len(o.Args) > 2:
		hint = "the image has no shell " + o.Args[0] + `: write RUN ["PROGRAM", "ARGUMENT"], or run the command in a stage that has one and COPY --from it`
	case c.isolation.Mode == sandbox.Chroot && lacksProc(err, v.Tail(20)):
		hint = c.isolation.ExplainNoProc()
	case c.isolation.SingleID && errors.As(err, new(*ExitError)) && refusesOwner(v.Tail(20)):
		hint = "files can't be given to other users, because this user has no subordinate ids"
		if remedy := c.isolation.MoreIDs(); remedy != "" {
			hint += ": " + remedy
		}
	}
	if hint == "" {
		return err
	}
	return &HintedError{err, hint}
}

// lacksProc reports whether the output of a command that has failed is about processes in
// /proc, or is one of programs that find their files by /proc/self/exe.
func lacksProc(err error, tail []string) bool {
	return errors.As(err, new(*ExitError)) && slices.ContainsFunc(tail, needsProc.MatchString)
}

// needsProc matches the path of a process in /proc, that of a descriptor in /dev/fd, which
// leads there, and the messages of go and java.
var needsProc = regexp.MustCompile(`/proc/(self|thread-self|[0-9]+)\b|/dev/fd/|cannot find GOROOT|libjli\.so: cannot open|current (executable|exe)\b`)

// refusesOwner reports whether the output of a command tells of an owner or group that
// could not be set.
func refusesOwner(tail []string) bool {
	return slices.ContainsFunc(tail, func(line string) bool {
		line = strings.ToLower(line)
		refused := strings.Contains(line, "not permitted") || strings.Contains(line, "invalid argument")
		return refused && (strings.Contains(line, "chown") || strings.Contains(line, "owner") || strings.Contains(line, "setgroups") ||
			strings.Contains(line, "seteuid") || strings.Contains(line, "setegid"))
	})
}

// crlfScript returns the name of a script with CRLF line ends that a RUN executes, or "".
func crlfScript(ctx context.Context, o op.Run, below *snapshot.Stack) string {
	for _, f := range o.Files {
		if strings.Contains(f.Data, "\r\n") {
			return "the heredoc"
		}
	}
	if len(o.Args) == 0 {
		return ""
	}
	command := o.Args[len(o.Args)-1]
	if len(o.Args) > 2 && strings.Contains(command, "\r\n") {
		return "the heredoc"
	}
	view, err := below.View(ctx)
	if err != nil {
		return ""
	}
	commands := [][]string{o.Args}
	if len(o.Args) > 2 && o.Args[1] == "-c" {
		commands = nil
		for text := range strings.FieldsFuncSeq(command, func(r rune) bool { return strings.ContainsRune("\n;&|()", r) }) {
			commands = append(commands, strings.Fields(text))
		}
	}
	for _, words := range commands {
		word := executed(words)
		if word == "" {
			continue
		}
		name := word
		if !path.IsAbs(name) {
			name = path.Join("/", o.Dir, name)
		}
		_, n, ok, err := view.Resolve(strings.TrimPrefix(path.Clean(name), "/"), true)
		if err == nil && ok && n.Type == listing.TypeFile && beginsWithCRLF(below, n) {
			return word
		}
	}
	return ""
}

// executed returns the program or script that a simple command executes, or "".
func executed(words []string) string {
	for i, word := range words {
		switch path.Base(word) {
		case "sh", "bash", "ash", "dash", ".", "source", "exec", "env":
			continue
		}
		if i == 0 || !strings.HasPrefix(word, "-") {
			return word
		}
	}
	return ""
}

// beginsWithCRLF reports whether the first line of a file is that of a script, and ends
// with CRLF.
func beginsWithCRLF(s *snapshot.Stack, n listing.Node) bool {
	f, err := s.Open(n)
	if err != nil {
		return false
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, 4096)).ReadString('\n')
	return err == nil && strings.HasSuffix(line, "\r\n") && (strings.HasPrefix(line, "#!") || strings.HasPrefix(line, "set -"))
}
