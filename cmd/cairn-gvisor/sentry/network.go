package sentry

import (
	"fmt"

	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/sentry/inet"
	"gvisor.dev/gvisor/pkg/sentry/kernel"
	"gvisor.dev/gvisor/pkg/sentry/kernel/auth"
	"gvisor.dev/gvisor/pkg/sentry/socket/hostinet"
	"gvisor.dev/gvisor/pkg/sentry/socket/netstack"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/link/loopback"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// newNetwork returns the network namespace of commands that use the network of this
// process. The namespaces made from it have a loopback device only.
func newNetwork(users *auth.UserNamespace, clock tcpip.Clock, k *kernel.Kernel) (*inet.Namespace, error) {
	s := hostinet.NewStack()
	if err := s.Configure(false); err != nil {
		return nil, fmt.Errorf("use the network: %w", err)
	}
	return inet.NewRootNamespace(s, &loopbacks{clock, k}, users), nil
}

// loopbacks makes network stacks with a loopback device.
type loopbacks struct {
	clock tcpip.Clock
	k     *kernel.Kernel
}

// CreateStack implements inet.NetworkStackCreator.
func (l *loopbacks) CreateStack() (inet.Stack, error) {
	s := netstack.NewStack(stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		Clock:              l.clock,
		Stats:              netstack.Metrics,
		HandleLocal:        true,
	}), l.k.UniqueID())
	id := tcpip.NICID(linux.LOOPBACK_IFINDEX)
	if err := s.Stack.CreateNICWithOptions(id, ethernet.New(loopback.New()), stack.NICOptions{Name: "lo", DeliverLinkPackets: true}); err != nil {
		return nil, fmt.Errorf("make a loopback device: %s", err)
	}
	for _, a := range []tcpip.ProtocolAddress{
		{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4([4]byte{127, 0, 0, 1}), PrefixLen: 8}},
		{Protocol: ipv6.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{Address: header.IPv6Loopback, PrefixLen: 128}},
	} {
		if err := s.Stack.AddProtocolAddress(id, a, stack.AddressProperties{}); err != nil {
			return nil, fmt.Errorf("make a loopback device: %s", err)
		}
	}
	s.Stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4LoopbackSubnet, NIC: id},
		{Destination: header.IPv6Loopback.WithPrefix().Subnet(), NIC: id},
	})
	return s, nil
}
