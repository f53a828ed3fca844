package command

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// dns has the values of --dns, --dns-search and --dns-option.
type dns struct{ servers, search, options []string }

// setServer adds a value of --dns.
func (d *dns) setServer(s string) error {
	for ip := range strings.SplitSeq(s, ",") {
		if _, err := netip.ParseAddr(ip); err != nil {
			return fmt.Errorf("%q: want the IP address of a server", ip)
		}
		d.servers = append(d.servers, ip)
	}
	return nil
}

// addDNSWord adds a value of --dns-search or --dns-option to a list.
func addDNSWord(list *[]string, s string) error {
	if s == "" || strings.ContainsAny(s, " \t\n") {
		return errors.New("want one word")
	}
	*list = append(*list, s)
	return nil
}

// file returns the content of resolv.conf in steps: that of the machine, whose lines of a
// kind the values replace. Without values it returns "".
func (d *dns) file() (string, error) {
	if len(d.servers)+len(d.search)+len(d.options) == 0 {
		return "", nil
	}
	text, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !os.IsNotExist(err) {
		return "", err
	}
	return d.replace(string(text)), nil
}

func (d *dns) replace(text string) string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		words := strings.Fields(line)
		replaced := len(words) > 0 && (words[0] == "nameserver" && len(d.servers) > 0 ||
			(words[0] == "search" || words[0] == "domain") && len(d.search) > 0 || words[0] == "options" && len(d.options) > 0)
		if !replaced {
			out = append(out, line)
		}
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	for _, ip := range d.servers {
		out = append(out, "nameserver "+ip)
	}
	if search := slices.DeleteFunc(slices.Clone(d.search), func(s string) bool { return s == "." }); len(search) > 0 {
		out = append(out, "search "+strings.Join(search, " "))
	}
	if len(d.options) > 0 {
		out = append(out, "options "+strings.Join(d.options, " "))
	}
	return strings.Join(out, "\n") + "\n"
}
