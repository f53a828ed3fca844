package command

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/sandbox"
)

// capabilities has the values of --cap-add and --cap-drop: names without CAP_.
type capabilities struct{ add, drop []string }

const allCapabilities = "ALL"

// parseCapabilities parses a list of names, which may have the prefix CAP_.
func parseCapabilities(s string) (names []string, err error) {
	for name := range strings.SplitSeq(s, ",") {
		name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		if name != allCapabilities && !slices.Contains(sandbox.Capabilities(), name) {
			return nil, fmt.Errorf("there is no capability %q", name)
		}
		names = append(names, name)
	}
	return names, nil
}

// addCapabilities adds capabilities that a step may have.
func addCapabilities(b *buildCommand, s string) error {
	names, err := parseCapabilities(s)
	for _, name := range names {
		if !slices.Contains(sandbox.StepCapabilities(), name) {
			return fmt.Errorf("a step can't have %s: use --allow security.insecure with RUN --security=insecure", name)
		}
	}
	b.peer.capabilities.add = append(b.peer.capabilities.add, names...)
	return err
}

func dropCapabilities(b *buildCommand, s string) error {
	names, err := parseCapabilities(s)
	b.peer.capabilities.drop = append(b.peer.capabilities.drop, names...)
	return err
}

// dropped returns the sorted names of the capabilities that no step has.
func (c *capabilities) dropped() ([]string, error) {
	drop := slices.Clone(c.drop)
	if slices.Contains(drop, allCapabilities) {
		drop = slices.DeleteFunc(sandbox.Capabilities(), func(name string) bool { return slices.Contains(c.add, name) })
	}
	for _, name := range c.add {
		if slices.Contains(drop, name) {
			return nil, usagef("--cap-add and --cap-drop both name %s", name)
		}
	}
	slices.Sort(drop)
	return slices.Compact(drop), nil
}

// addGroup adds a group of the user of each step.
func addGroup(b *buildCommand, s string) error {
	for name := range strings.SplitSeq(s, ",") {
		switch name {
		case "":
			return errors.New("want the name or number of a group")
		case "keep-groups":
			return errors.New("steps can't keep the groups of the user who builds: name a group of the image")
		}
		b.options.Groups = append(b.options.Groups, name)
	}
	return nil
}

// addVolume adds a directory or file of this machine that each step can read.
func addVolume(b *buildCommand, s string) error {
	host, rest, ok := strings.Cut(s, ":")
	target, options, _ := strings.Cut(rest, ":")
	switch {
	case !ok || host == "" || target == "":
		return errors.New("want HOST:PATH or HOST:PATH:OPTIONS")
	case !filepath.IsAbs(host) && !strings.HasPrefix(host, "."):
		return fmt.Errorf("%q: want the absolute path of a directory or file: there are no named volumes", host)
	case path.Clean(target) == "/" || !path.IsAbs(target):
		return fmt.Errorf("%q: want an absolute path in the image, other than /", target)
	}
	v := builder.Volume{Target: target}
	readOnly, err := readVolumeOptions(&v, options)
	if err != nil {
		return err
	}
	if !readOnly && !v.Writable {
		b.notices = append(b.notices, fmt.Sprintf("--volume %s is read-only: steps can't write to files of this machine; add :ro, or :O to discard what they write", s))
	}
	if v.Dir, err = filepath.EvalSymlinks(host); err == nil {
		v.Dir, err = filepath.Abs(v.Dir)
	}
	if err != nil {
		return err
	}
	fi, err := os.Stat(v.Dir)
	switch {
	case err != nil:
		return err
	case fi.Mode().IsRegular():
		v.Source, v.Dir = "/"+filepath.Base(v.Dir), filepath.Dir(v.Dir)
	case fi.IsDir():
		v.Source = "/"
	default:
		return fmt.Errorf("%s is neither a directory nor a regular file", host)
	}
	b.options.Volumes = append(b.options.Volumes, v)
	return nil
}

// readVolumeOptions reads the options of a volume. It reports whether one is ro.
func readVolumeOptions(v *builder.Volume, options string) (readOnly bool, err error) {
	for option := range strings.SplitSeq(options, ",") {
		switch option {
		case "ro":
			readOnly = true
		case "O":
			v.Writable = true
		case "rw":
			return false, errors.New("option rw: steps can't write to files of this machine: use ro, O to discard what they write, or RUN --mount=type=cache")
		case "U":
			return false, errors.New("option U: the owners of files of this machine are not changed; in a step, they belong to root")
		case "", "z", "Z", "shared", "rshared", "slave", "rslave", "private", "rprivate", "bind", "rbind":
		default:
			return false, fmt.Errorf("option %q: want ro, O, z or Z", option)
		}
	}
	return readOnly, nil
}

// applyStepFlags applies the flags of other builders for each RUN.
func (b *buildCommand) applyStepFlags() (err error) {
	o := &b.options
	if o.NoHosts && len(o.AddHosts) > 0 {
		return usagef("--no-hosts and --add-host exclude each other")
	}
	if o.DropCaps, err = b.peer.capabilities.dropped(); err != nil {
		return err
	}
	o.ResolvConf, err = b.peer.dns.file()
	return err
}
