package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/solve"
)

func (d *dispatcher) run(in *dockerfile.Run) error {
	if !validText(in.Args...) {
		return errors.New("the command is not valid UTF-8")
	}
	args, files, err := commandOf(in)
	if err != nil {
		return err
	}
	shown := in.Source
	if _, ok := in.OnlyHeredoc(); ok {
		shown += fmt.Sprintf(" (%s)", summary(in.Files[0].Data))
	}
	if in.Shell {
		args = withShell(d.stage, args)
	}
	o := d.shell()
	o.Args, o.Files = args, files
	if in.Network != "default" {
		o.Network = in.Network
	}
	o.Insecure = in.Insecure
	if err := d.checkAllowed(in); err != nil {
		return err
	}
	ins, err := d.addMounts(in, &o)
	if err != nil {
		return err
	}
	step := op.NewStep(o, append([]solve.Input{{Step: d.stage.root}}, ins...)...)
	d.addStep(step, d.shown(shown, true, maskSecrets(&d.stage.env, o.Mounts)), "RUN "+d.stage.commandText(args)+" # buildkit")
	return nil
}

// shell returns a RUN without a command and mounts.
func (d *dispatcher) shell() op.Run {
	return op.Run{
		Env: d.stage.env.list(), Dir: d.stage.workdir(), User: d.stage.config.Config.User,
		Network: d.network, Hosts: d.in.AddHosts, Hostname: d.args["BUILDKIT_SANDBOX_HOSTNAME"],
		Groups: d.in.Groups, DropCaps: d.in.DropCaps, NoHosts: d.in.NoHosts,
		ShmSize: d.in.ShmSize, Ulimits: d.in.Ulimits, Platform: d.stage.platform.String(), Epoch: d.epoch, Extra: op.RunExtra{Proxy: d.proxy},
	}
}

// Privileges that a RUN may request and a build must grant.
const (
	AllowInsecure    = "security.insecure"
	AllowHostNetwork = "network.host"
)

// checkAllowed returns an error if a RUN requests a privilege that the build does
// not grant. Building on the host's network grants that network to each RUN.
func (d *dispatcher) checkAllowed(in *dockerfile.Run) error {
	var need string
	switch {
	case in.Insecure && !slices.Contains(d.in.Allow, AllowInsecure):
		need = AllowInsecure
	case in.Network == "host" && d.network != "host" && !slices.Contains(d.in.Allow, AllowHostNetwork):
		need = AllowHostNetwork
	default:
		return nil
	}
	return fmt.Errorf("%s is not allowed: pass --allow %s if you trust the Dockerfile with it", need, need)
}

// commandOf returns a RUN's arguments, without the shell, with its heredocs.
func commandOf(in *dockerfile.Run) (args []string, files []op.RunFile, err error) {
	if len(in.Files) == 0 {
		return in.Args, nil, nil
	}
	if len(in.Args) != 1 || !in.Shell {
		return nil, nil, fmt.Errorf("parsing produced an invalid run command: %v", in.Args)
	}
	for _, h := range in.Files {
		if err := checkInline(h); err != nil {
			return nil, nil, err
		}
	}
	if h, ok := in.OnlyHeredoc(); ok {
		if strings.HasPrefix(h.Data, "#!") {
			return []string{"/dev/pipes/" + h.Name}, []op.RunFile{{Name: h.Name, Data: h.Data}}, nil
		}
		return []string{h.Data}, nil, nil // works in shells without heredocs too
	}
	var b strings.Builder // the shell reads the heredocs
	b.WriteString(in.Args[0])
	for _, h := range in.Files {
		b.WriteString("\n" + h.Data + h.Name)
	}
	return []string{b.String()}, nil, nil
}

// summary returns the first line of a heredoc.
func summary(text string) string {
	text = strings.ReplaceAll(strings.TrimSpace(text), "\r\n", "\n")
	line, _, more := strings.Cut(text, "\n")
	if more {
		return line + "..."
	}
	return line
}

// commandText returns a command for the history: the number and values of the
// ARGs in scope, then the command.
func (s *stage) commandText(args []string) string {
	if len(s.args) == 0 {
		return strings.Join(args, " ")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "|%d", len(s.args))
	for _, a := range s.args {
		v, ok := s.env.Get(a.Key)
		if !ok && a.Value != nil {
			v = *a.Value
		}
		b.WriteString(" " + a.Key + "=" + v)
	}
	return b.String() + " " + strings.Join(args, " ")
}
