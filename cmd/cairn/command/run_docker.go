package command

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder/option"
)

// dockerFlags adds flags of docker run: those that mean something here, and those that
// have no effect or are refused with a reason.
func (r *runCommand) dockerFlags(f *pflag.FlagSet) {
	o := &r.options
	repeatedFlag(f, "env-file", "", "FILE", "Read environment variables from a file with lines NAME=VALUE or NAME", func(name string) error {
		env, err := readEnvFile(name)
		r.envFiles = append(r.envFiles, env...)
		return err
	})
	repeatedFlag(f, "mount", "", "type=bind,src=HOST,dst=PATH[,ro]", "Mount a file or directory of the host; or type=tmpfs,dst=PATH", func(s string) error {
		return r.addMount(s)
	})
	parsedFlag(f, "network", "", "host|none", "Network of the command: the host's, or none", func(s string) error {
		if s != "host" && s != "none" {
			return errors.New("the command is on the network of the host: want host, or none for only a loopback device")
		}
		o.Network = s
		return nil
	})
	repeatedFlag(f, "publish", "p", "PORT[:PORT]", "No effect, for compatibility with docker run: ports are those of the host", checkPublish)
	f.BoolP("publish-all", "P", false, ignoredOfDocker+"ports are those of the host")
	f.String("name", "", ignoredOfDocker+"nothing is left that could be named")
	f.BoolP("interactive", "i", false, ignoredOfDocker+"standard input is always connected")
	f.BoolVar(&o.Init, "init", false, "Run an init process that forwards signals and waits for orphaned processes")
	parsedFlag(f, "pull", "", "always|missing|never", "When to pull the image: always, if it is missing in the store, or never (default never)", func(s string) error {
		if s != "always" && s != "missing" && s != "never" {
			return errors.New("want always, missing or never")
		}
		r.pull = s
		return nil
	})
	f.Bool("rm", false, ignoredOfDocker+"nothing is left behind")
	for name, reason := range map[string]string{
		"detach":     "the command runs in the foreground: start cairn in the background, with & or by a service manager",
		"restart":    "the command runs once: a service manager can start cairn again",
		"privileged": "a command has the rights of a RUN: only cairn build --allow security.insecure gives a step more",
		"cap-add":    "a command has the capabilities of a RUN: only cairn build --allow security.insecure gives a step more",
		"device":     "devices of the host can't be added",
		"link":       "commands share the network of the host: they reach each other at 127.0.0.1",
	} {
		short := map[string]string{"detach": "d"}[name]
		refused := &repeatedValue{parsedValue{kind: "X", set: func(string) error { return errors.New(reason) }}}
		f.VarP(refused, name, short, reason)
		_ = f.MarkHidden(name)
		if name == "detach" || name == "privileged" {
			f.Lookup(name).NoOptDefVal = "true"
		}
	}
}

const ignoredOfDocker = "No effect, for compatibility with docker run: "

// checkPublish refuses ports that another one of the host should lead to.
func checkPublish(s string) error {
	parts := strings.Split(strings.TrimSuffix(strings.TrimSuffix(s, "/tcp"), "/udp"), ":")
	if port := parts[len(parts)-1]; len(parts) > 1 && parts[len(parts)-2] != port && parts[len(parts)-2] != "" {
		return fmt.Errorf("the command is on the network of the host, at its own port %s: configure it to listen on %s", port, parts[len(parts)-2])
	}
	return nil
}

// readEnvFile reads variables as docker does: a line is NAME=VALUE, with everything
// after = as the value, or NAME of a variable of the environment. Lines that begin
// with # are comments.
func readEnvFile(name string) (env []string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	for n := 1; in.Scan(); n++ {
		line := strings.TrimLeft(strings.TrimPrefix(in.Text(), "\ufeff"), " \t")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok, err := option.ParseVariable(line, os.LookupEnv)
		switch {
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", n, err)
		case strings.ContainsAny(name, " \t"):
			return nil, fmt.Errorf("line %d: the name %q has spaces", n, name)
		case ok:
			env = append(env, name+"="+value)
		}
	}
	return env, in.Err()
}

// addMount adds the mount of a --mount flag.
func (r *runCommand) addMount(s string) error {
	var kind, source, target string
	readOnly := false
	for field := range strings.SplitSeq(s, ",") {
		key, value, _ := strings.Cut(field, "=")
		switch strings.ToLower(key) {
		case "type":
			kind = value
		case "source", "src":
			source = value
		case "target", "dst", "destination":
			target = value
		case "readonly", "ro":
			readOnly = value == "" || value == "true" || value == "1"
		default:
			return fmt.Errorf("unknown key %q: want type, source, target or readonly", key)
		}
	}
	switch {
	case kind == "tmpfs" && path.IsAbs(target) && source == "":
		r.options.Tmpfs = append(r.options.Tmpfs, target)
		return nil
	case kind == "bind" && source != "" && target != "" && !strings.Contains(source+target, ":"):
		volume := source + ":" + target
		if readOnly {
			volume += ":ro"
		}
		r.options.Volumes = append(r.options.Volumes, volume)
		return checkVolume(volume)
	case kind == "volume" || kind == "":
		return errors.New("there are no volumes: want type=bind with a directory of the host, or type=tmpfs")
	}
	return errors.New("want type=bind,source=HOST,target=PATH[,readonly] or type=tmpfs,target=PATH")
}

// environment returns the variables of --env-file and --env, of which the latter
// override the former.
func (r *runCommand) environment() []string { return slices.Concat(r.envFiles, r.options.Env) }
