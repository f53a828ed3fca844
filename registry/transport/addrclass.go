package transport

import (
	"net"
	"net/netip"
	"strings"
)

// addrClass tells apart how far away a host is. A registry may refer to a host
// of its own class or of a lower one; see [realmGuard].
type addrClass int32

const (
	public addrClass = iota
	private
	loopback
	linkLocal // also addresses that no server has, and addresses in disguise
)

var awsMetadata = netip.MustParseAddr("fd00:ec2::254") // IPv6 address of EC2's metadata service

// classify returns the class of a host name or IP address. A name other than
// localhost is public, since it is not looked up here.
func classify(host string) addrClass {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		switch {
		case isLoopback(host):
			return loopback
		case net.ParseIP(host) != nil, looksNumeric(host):
			return linkLocal
		}
		return public
	}
	ip = ip.Unmap().WithZone("")
	switch {
	case ip.IsLoopback():
		return loopback
	case ip.IsLinkLocalUnicast(), ip.IsMulticast(), ip.IsUnspecified(), ip == awsMetadata:
		return linkLocal
	case ip.IsPrivate():
		return private
	}
	return public
}

// looksNumeric reports whether a resolver may read host as an IPv4 address in
// one of its old forms, such as 0x7f.1 or 2130706433.
func looksNumeric(host string) bool {
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	last := labels[len(labels)-1]
	return last != "" && (strings.Trim(last, "0123456789") == "" || strings.HasPrefix(strings.ToLower(last), "0x"))
}

// isLoopback reports whether domain, with or without a port, is localhost or a
// loopback address.
func isLoopback(domain string) bool {
	name := hostname(domain)
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.IsLoopback()
}

// hostname returns a domain without its port and brackets.
func hostname(domain string) string {
	if host, _, err := net.SplitHostPort(domain); err == nil {
		return host
	}
	return strings.Trim(domain, "[]")
}
