package corpus_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// translate returns the arguments for buildctl.
func (c *testcase) translate(t *testing.T) (args []string) {
	t.Helper()
	opt := func(name, value string) { args = append(args, "--opt", name+"="+value) }
	file, hosts := "", []string{}
	for i := 0; i < len(c.flags); i++ {
		name, value, joined := strings.Cut(c.flags[i], "=")
		if !joined && name != "--no-cache" && name != "--check" {
			i++
			value = c.flags[i]
		}
		key, rest, given := strings.Cut(value, "=")
		switch name {
		case "--build-arg":
			if given || c.lookup(key, &rest) {
				opt("build-arg:"+key, rest)
			}
		case "--label":
			opt("label:"+key, rest)
		case "--target", "--platform", "--shm-size", "--ulimit", "--no-cache":
			opt(name[2:], value)
		case "--network":
			opt("force-network-mode", value)
		case "--add-host":
			hosts = append(hosts, strings.Replace(value, ":", "=", 1))
		case "-f", "--file":
			file = value
		case "--build-context":
			args = append(args, namedContext(key, rest)...)
		case "--secret", "--ssh", "--allow":
			args = append(args, name, value)
		case "--annotation": // see attributes
		case "--check":
			opt("requestid", "frontend.lint")
		case "--call":
			kind, _, _ := strings.Cut(value, ",")
			opt("requestid", "frontend."+strings.Replace(kind, "check", "lint", 1))
		default:
			t.Fatalf("no translation of %s for buildctl", name)
		}
	}
	if len(hosts) > 0 {
		opt("add-hosts", strings.Join(hosts, ","))
	}
	return append(args, c.locate(file)...)
}

func (c *testcase) lookup(name string, value *string) bool {
	for _, kv := range c.env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			*value = v
			return true
		}
	}
	return false
}

// locate returns the arguments that select the Dockerfile and the context.
func (c *testcase) locate(file string) (args []string) {
	if c.url == "" && strings.Contains(c.context, "://") {
		c.url = c.context
	}
	if c.url != "" {
		args = append(args, "--opt", "context="+c.url)
		if file != "" {
			args = append(args, "--opt", "filename="+file)
		}
		return args
	}
	dir := c.context
	if file != "" {
		dir = filepath.Dir(file)
		args = append(args, "--opt", "filename="+filepath.Base(file))
	}
	return append(args, "--local", "context="+c.context, "--local", "dockerfile="+dir)
}

func namedContext(name, where string) []string {
	if strings.Contains(where, "://") {
		return []string{"--opt", "context:" + name + "=" + where}
	}
	local := "named-" + strings.NewReplacer("/", "-", ":", "-").Replace(name)
	return []string{"--local", local + "=" + where, "--opt", "context:" + name + "=local:" + local}
}

// attributes returns the attributes of BuildKit's exporter.
func (c *testcase) attributes() (s string) {
	for i, f := range c.flags {
		if f != "--annotation" {
			continue
		}
		if kind, pair, ok := strings.Cut(c.flags[i+1], ":"); ok {
			s += ",annotation-" + kind + "." + pair
		} else {
			s += ",annotation." + c.flags[i+1]
		}
	}
	return s
}
