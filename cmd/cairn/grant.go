package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/agent"
	"github.com/cairn-build/cairn/builder/plan"
)

// allowFlag reads privileges; several may be given with commas between.
func allowFlag(f *pflag.FlagSet, to *[]string) {
	known := []string{plan.AllowInsecure, plan.AllowHostNetwork}
	eachVar(f, "allow", "", "PRIVILEGE", "let a RUN ask for "+strings.Join(known, " or "), func(text string) error {
		for p := range strings.SplitSeq(text, ",") {
			if !slices.Contains(known, p) {
				return fmt.Errorf("%q is no privilege: want %s", p, strings.Join(known, " or "))
			}
			*to = append(*to, p)
		}
		return nil
	})
}

// sshFlag reads where an ssh agent is.
func sshFlag(f *pflag.FlagSet, to *[]agent.Source) {
	eachVar(f, "ssh", "", "default|ID[=SOCKET|KEY,...]", "let a RUN use an ssh agent or keys, with --mount=type=ssh; default serves ADD of git@ and ssh:// too", func(text string) error {
		s, err := agent.Parse(text)
		*to = append(*to, s)
		return err
	})
}

// limitFlags read what a RUN may use of the machine.
func limitFlags(f *pflag.FlagSet, o *builder.Options) {
	f.Var(&parsed{kind: "SIZE", set: func(text string) (err error) {
		if o.ShmSize, err = units.RAMInBytes(text); err == nil && o.ShmSize <= 0 {
			err = errors.New("want a size, such as 128m")
		}
		return err
	}}, "shm-size", "size of the /dev/shm of each RUN (default 64m)")
	eachVar(f, "ulimit", "", "NAME=SOFT[:HARD]", "limit what each RUN may use, as nofile=1024", func(text string) error {
		l, err := units.ParseUlimit(text)
		if err != nil {
			return err
		}
		o.Ulimits = append(o.Ulimits, plan.Ulimit{Name: l.Name, Soft: l.Soft, Hard: l.Hard})
		return nil
	})
	f.Var(&parsed{kind: "DURATION", set: func(text string) (err error) {
		if o.StepTimeout, err = time.ParseDuration(text); err != nil || o.StepTimeout <= 0 {
			err = errors.New("want a duration, such as 30m or 1h30m")
		}
		return err
	}}, "step-timeout", "kill a RUN that takes longer, with all that it started, as 30m")
	cgroupFlags(f, &o.Limits, "each RUN")
	refusedFlag(f, "builder", "cairn builds by itself, and has no builders to choose from")
	refusedFlag(f, "attest", noAttestations)
	offFlag(f, "provenance", noAttestations)
	offFlag(f, "sbom", noAttestations)
	refusedFlag(f, "device", "devices are injected by a container runtime (CDI), and cairn has none")
}

const noAttestations = "attestations are not supported yet: images are built without"

// offFlag is one of docker's that may say only what holds anyway.
func offFlag(f *pflag.FlagSet, name, why string) {
	f.Var(&parsed{kind: "X", set: func(text string) error {
		if on, err := strconv.ParseBool(text); err == nil && !on {
			return nil
		}
		return errors.New(why)
	}}, name, why)
	f.Lookup(name).NoOptDefVal = "true"
	_ = f.MarkHidden(name)
}

// refusedFlag is one of docker's that cairn has a reason not to have.
func refusedFlag(f *pflag.FlagSet, name, why string) {
	f.Var(&parsed{kind: "X", set: func(string) error { return errors.New(why) }}, name, why)
	_ = f.MarkHidden(name)
}
