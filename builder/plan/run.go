package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/solve"
)

func (p *planner) run(s *stage, c command, in *dockerfile.Run) error {
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
		args = withShell(s, args)
	}
	op := Run{
		Args: args, Env: s.env.list(), Dir: s.workdir(), User: s.config.Config.User,
		Network: p.network, Hosts: p.in.AddHosts, Hostname: p.args["BUILDKIT_SANDBOX_HOSTNAME"],
		ShmSize: p.in.ShmSize, Ulimits: p.in.Ulimits, Files: files, Platform: s.platform.String(), Epoch: p.epoch, Extra: RunExtra{Proxy: p.proxy},
	}
	if in.Network != "default" {
		op.Network = in.Network
	}
	op.Insecure = in.Insecure
	if err := p.checkAllowed(in); err != nil {
		return err
	}
	ins, err := p.addMounts(s, c, in, &op)
	if err != nil {
		return err
	}
	step := &solve.Step{Op: encode("run", op), In: append([]solve.Input{{Step: s.root}}, ins...)}
	if p.proxy != nil || op.Extra.Caches != nil {
		step.Extra = encode("", op.Extra)
	}
	p.addStep(s, c, step, p.shown(shown, true, maskSecrets(&s.env, op.Mounts)), "RUN "+s.commandText(args)+" # buildkit")
	return nil
}

// The privileges that a RUN may ask for and the build must grant.
const (
	AllowInsecure    = "security.insecure"
	AllowHostNetwork = "network.host"
)

// checkAllowed refuses privileges that the build does not grant. That its own
// network is the host's grants as much.
func (p *planner) checkAllowed(in *dockerfile.Run) error {
	var need string
	switch {
	case in.Insecure && !slices.Contains(p.in.Allow, AllowInsecure):
		need = AllowInsecure
	case in.Network == "host" && p.network != "host" && !slices.Contains(p.in.Allow, AllowHostNetwork):
		need = AllowHostNetwork
	default:
		return nil
	}
	return fmt.Errorf("%s is not allowed: pass --allow %s if you trust the Dockerfile with it", need, need)
}

// commandOf gives a RUN's arguments, before any shell, with its heredocs in
// them.
func commandOf(in *dockerfile.Run) (args []string, files []RunFile, err error) {
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
			return []string{"/dev/pipes/" + h.Name}, []RunFile{{h.Name, h.Data}}, nil
		}
		return []string{h.Data}, nil, nil // for shells that know no heredocs
	}
	var b strings.Builder // the shell reads the heredocs
	b.WriteString(in.Args[0])
	for _, h := range in.Files {
		b.WriteString("\n" + h.Data + h.Name)
	}
	return []string{b.String()}, nil, nil
}

// summary is a heredoc's first line.
func summary(text string) string {
	text = strings.ReplaceAll(strings.TrimSpace(text), "\r\n", "\n")
	line, _, more := strings.Cut(text, "\n")
	if more {
		return line + "..."
	}
	return line
}

// commandText is a command in the history: the ARGs in scope, counted, and the
// command.
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
