package language

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	goAddress = `"(?:([A-Za-z0-9.\[\]:-]*):)?(\d{2,5})"`
	goName    = `(?i:(?:http|server|listen|web|bind|app|default)?[-_.]?(?:addr|address|port|listen|bind))`
)

var (
	goReadsPort = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[(,=]\s*"PORT"|env\w*:"PORT[",]`) })
	// The default of the variable PORT: the argument after it, that of cmp.Or after its value,
	// and a tag of a structure.
	goPortDefault = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`"PORT"\s*\)?\s*,\s*(?:` + goAddress + `|()(\d{2,5}))\s*\)|env\w*:"PORT[^"\n]*"[^` + "`" + `\n]*(?i:default):"()(\d{2,5})"`)
	})
	goPort = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?:\b` + goName + `\s*(?:string\s*)?[:=!]?=|\bListenAndServe(?:TLS)?\(|\.(?:Run|Listen|Start)\(|\bAddr:|"tcp[46]?",)\s*(?:[\w.]+,\s*)?` + goAddress +
			`|"(?:HTTP|SERVER|LISTEN|APP|WEB)_(?:PORT|ADDR|ADDRESS)"\s*\)?\s*,\s*` + goAddress +
			`|\b` + goName + `\s*(?:int\s*)?:?=\s*()(\d{2,5})\b` +
			`|\.(?:String|Int|Uint)(?:Var)?P?\(\s*(?:&[\w.]+,\s*)?"` + goName + `"\s*,\s*(?:"\w?"\s*,\s*)?(?:` + goAddress + `|()(\d{2,5})\b)`)
	})
	goServes = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\bListenAndServe(?:TLS)?\(`) })
	goLocal  = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?:\bListenAndServe(?:TLS)?\(|\.(?:Run|Listen|Start)\(|"tcp[46]?",)\s*(?:fmt\.Sprintf\(\s*)?"(127\.0\.0\.1|localhost|\[::1\]):`)
	})
)

// servicePorts are the ports of databases and queues, which a program connects to.
var servicePorts = []int{1433, 3306, 5432, 5672, 6379, 9092, 11211, 27017}

// goListener is the port that the sources of a program listen on.
type goListener struct {
	number   int
	from     string
	certain  bool   // it is the default of the variable PORT
	variable bool   // the program reads PORT
	serves   bool   // it listens, perhaps on an unknown port
	local    string // address of the host that it listens on, if no other host reaches it
	localIn  string // file
}

// read looks for the port in a file.
func (l *goListener) read(name, text string) {
	l.variable = l.variable || goReadsPort().MatchString(text)
	l.serves = l.serves || goServes().MatchString(text)
	if host, number := goFirstPort(goPortDefault(), text); number != 0 && !l.certain {
		l.number, l.from, l.certain = number, name, true
		l.listensOn(host, name)
	}
	if host, number := goFirstPort(goPort(), text); number != 0 && l.number == 0 {
		l.number, l.from = number, name
		l.listensOn(host, name)
	}
	if m := goLocal().FindStringSubmatch(text); m != nil {
		l.listensOn(m[1], name)
	}
}

func (l *goListener) listensOn(host, name string) {
	if l.local == "" && slices.Contains([]string{"127.0.0.1", "localhost", "[::1]"}, host) {
		l.local, l.localIn = host, name
	}
}

// goFirstPort returns the first match that is no port of a service. The groups of the
// expression are pairs of a host and a port.
func goFirstPort(expression *regexp.Regexp, text string) (host string, number int) {
	for _, m := range expression.FindAllStringSubmatch(text, -1) {
		for i := 1; i+1 < len(m); i += 2 {
			n, _ := strconv.Atoi(m[i+1])
			if n != 0 && n <= 65535 && !slices.Contains(servicePorts, n) {
				return strings.TrimSpace(m[i]), n
			}
		}
	}
	return "", 0
}

// goListens decides on the port.
func (s *project) goListens(f *goFile, l *goListener) {
	usual := 0
	if l.variable || l.serves {
		usual = 8080
	}
	f.PortVar = l.variable
	f.Port = s.ChoosePort(l.from, l.number, usual)
	if l.local != "" {
		s.WarnLocal(l.localIn, l.local)
	}
}
