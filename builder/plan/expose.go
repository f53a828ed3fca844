package plan

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

// maxPorts is the number of ports in all three protocols.
const maxPorts = 3 * 65536

func (d *dispatcher) expose(in *dockerfile.Expose) error {
	var all []string
	for _, text := range in.Ports {
		specs, err := d.lex.Words(text, &d.stage.env)
		if err != nil {
			return err
		}
		for _, spec := range specs {
			ports, err := parsePorts(spec, in.Info(), d.lint)
			if err != nil {
				return err
			}
			if all = append(all, ports...); len(all) > maxPorts {
				return fmt.Errorf("more than %d ports", maxPorts)
			}
		}
	}
	if d.stage.config.Config.ExposedPorts == nil {
		d.stage.config.Config.ExposedPorts = map[string]struct{}{}
	}
	for _, port := range all {
		d.stage.config.Config.ExposedPorts[port] = struct{}{}
	}
	d.commit(fmt.Sprintf("EXPOSE %v", all), false)
	return nil
}

// parsePorts parses [[ip:]host:]port[-port][/proto] and returns "port/proto" for
// each port. Addresses and ports of the host are checked, as docker does, and
// ignored.
func parsePorts(spec string, m *dockerfile.Meta, lint *dockerfile.Lint) ([]string, error) {
	ip, host, port := splitPorts(spec)
	port, proto, _ := strings.Cut(port, "/")
	lower := strings.ToLower(proto)
	switch {
	case port == "":
		return nil, fmt.Errorf("invalid port: %q: no port specified", spec)
	case lower == "":
		lower = "tcp"
	case lower != "tcp" && lower != "udp" && lower != "sctp":
		err := fmt.Errorf("invalid port: %q: invalid proto: %s", spec, proto)
		return nil, dockerfile.InBuildKit(fmt.Errorf("%w: want tcp, udp or sctp", err), err.Error())
	case lower != proto:
		lint.ExposeCase(m, spec)
	}
	if ip != "" || host != "" {
		lint.ExposeFormat(m, spec)
	}
	if err := checkIP(ip); err != nil {
		return nil, err
	}
	first, last, err := portRange(port)
	if err != nil {
		return nil, dockerfile.InBuildKit(fmt.Errorf("invalid containerPort: %s: %w", port, err), "invalid containerPort: "+port)
	}
	if err := checkHostPorts(host, port, last-first); err != nil {
		return nil, err
	}
	ports := make([]string, 0, last-first+1)
	for n := first; n <= last; n++ {
		ports = append(ports, strconv.Itoa(n)+"/"+lower)
	}
	return ports, nil
}

func splitPorts(spec string) (ip, host, port string) {
	rest, port, found := cutLast(spec, ":")
	if !found {
		return "", "", spec
	}
	ip, host, found = cutLast(rest, ":")
	if !found {
		return "", rest, port
	}
	return ip, host, port
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func checkIP(ip string) error {
	bare := ip
	if strings.HasPrefix(ip, "[") {
		var err error
		if bare, _, err = net.SplitHostPort(ip + ":"); err != nil {
			return fmt.Errorf("invalid IP address %v: %w", ip, err)
		}
	}
	if bare != "" && net.ParseIP(bare) == nil {
		return fmt.Errorf("invalid IP address: %s", bare)
	}
	return nil
}

// checkHostPorts returns an error unless the range of host ports has as many ports
// as the container's. For a single container port any range is valid.
func checkHostPorts(host, port string, span int) error {
	if host == "" {
		return nil
	}
	first, last, err := portRange(host)
	if err != nil {
		return fmt.Errorf("invalid hostPort: %s: %w", host, err)
	}
	if span != last-first && span != 0 {
		return fmt.Errorf("invalid ranges specified for container and host Ports: %s and %s", port, host)
	}
	return nil
}

func portRange(text string) (first, last int, err error) {
	start, end, ranged := strings.Cut(text, "-")
	if first, err = portNumber(start); err != nil || !ranged {
		return first, first, err
	}
	if last, err = portNumber(end); err == nil && last < first {
		err = errors.New("it ends before it starts")
	}
	return first, last, err
}

func portNumber(text string) (int, error) {
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		err = fmt.Errorf("%q is not a number", text)
	case n < 0 || n > 65535:
		err = errors.New("value out of range (0–65535)")
	}
	return n, err
}
