package python

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/builder/generate/survey"
)

var (
	localHost = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`['"](127\.0\.0\.1|localhost|::1)['"]`) })
	// localAddress is the address of a server of the standard library.
	localAddress = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?:Server|make_server|start_server|run_simple)\((?:[\w.]+,\s*)?\(?\s*['"](127\.0\.0\.1|localhost|::1)['"]`)
	})
)

// server is a call that listens on the loopback device unless it has a host.
type server struct {
	library string // that the file imports
	call    string // a regular expression
	first   bool   // the host is its first argument, too
}

func servers() []server {
	const run = `\b(?:app|application|server|web)\.run\(`
	return []server{
		{"uvicorn", `\buvicorn\.run\(`, false}, {"flask", run, true}, {"quart", run, true}, {"sanic", run, true},
		{"dash", `\b(?:app|application|server|web)\.run(?:_server)?\(`, true},
		{"bottle", `(?m)(?:^[ \t]*|\bbottle\.|\bapp\.)run\(`, false},
		{"gradio", `\b\w+\.launch\(`, false},
	}
}

// warnLocal warns of programs that listen on the loopback device: from outside of their
// container they cannot be reached.
func (s *project) warnLocal(sources []string) {
	s.Tree.Search(sources, func(name, text string) bool {
		if m := localAddress().FindStringSubmatch(text); m != nil {
			s.WarnLocal(name, m[1])
			return true
		}
		for _, server := range servers() {
			if !strings.Contains(text, "import "+server.library) && !strings.Contains(text, "from "+server.library) {
				continue
			}
			at := regexp.MustCompile(server.call).FindStringIndex(text)
			if at == nil {
				continue
			}
			argument := "host"
			if server.library == "gradio" {
				argument = "server_name"
			}
			args := arguments(text[at[1]:])
			if server.first && len(args) > 0 && args[0] != "" && !strings.Contains(args[0], "=") && args[0][0] != '*' {
				args[0] = argument + "=" + args[0]
			}
			local := ownHost(args, argument)
			if local == "" || server.library == "bottle" && slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "server") }) {
				return false
			}
			s.Warn("%s: %s) listens on %s, which is reached from inside of its container only: pass %s=\"0.0.0.0\"",
				survey.Display(name), strings.TrimSpace(text[at[0]:at[1]]), local, argument)
			return true
		}
		return false
	})
}

// ownHost returns the local address that the arguments of a server name, or that it takes
// without one; "" if it is another or not known.
func ownHost(args []string, argument string) string {
	if args == nil {
		return ""
	}
	for _, a := range args {
		name, value, _ := strings.Cut(a, "=")
		switch {
		case strings.TrimSpace(name) == argument:
			if m := localHost().FindStringSubmatch(value); m != nil {
				return m[1]
			}
			return ""
		case strings.HasPrefix(a, "*"):
			return ""
		}
	}
	return "127.0.0.1"
}

// arguments splits the text after the opening parenthesis of a call into its arguments. It
// returns nil if the call is too long.
func arguments(text string) (list []string) {
	text = text[:min(len(text), 4096)]
	depth, begin := 1, 0
	for i, c := range text {
		switch {
		case c == '(' || c == '[' || c == '{':
			depth++
		case c == ')' || c == ']' || c == '}':
			if depth--; depth == 0 {
				return append(list, strings.TrimSpace(text[begin:i]))
			}
		case c == ',' && depth == 1:
			list = append(list, strings.TrimSpace(text[begin:i]))
			begin = i + 1
		}
	}
	return nil
}
