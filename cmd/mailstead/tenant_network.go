package main

import (
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"mailstead.dev/cmd/mailstead/config"
)

func (a *app) tenantNetwork() *cobra.Command {
	return group("network", "Networks from which a tenant's logins may fail as often as they like",
		&cobra.Command{
			Use: "add TENANT NETWORK", Short: "Keep nobody of a tenant out who comes from a network, such as 192.0.2.0/24, however many logins fail", Args: exactArgs("TENANT", "NETWORK"),
			RunE: a.onStore(addNetwork),
		},
		&cobra.Command{Use: "list TENANT", Short: "List a tenant's networks", Args: exactArgs("TENANT"), RunE: a.onStore(listNetworks)},
		&cobra.Command{Use: "remove TENANT NETWORK", Short: "Count failures from a network again", Args: exactArgs("TENANT", "NETWORK"), RunE: a.onStore(removeNetwork)})
}

// network reads the second argument.
func (j *job) network() (netip.Prefix, error) {
	var n config.Network
	if err := n.UnmarshalText([]byte(j.args[1])); err != nil {
		return n.Prefix, usageError{fmt.Errorf("%s: %w", j.args[1], err)}
	}
	return n.Prefix, nil
}

func addNetwork(j *job) error {
	tenant, err := j.tenant(j.args[0])
	if err != nil {
		return err
	}
	network, err := j.network()
	if err != nil {
		return err
	}
	if err := j.store.AddTenantNetwork(j, tenant.ID, network); err != nil {
		return about("network "+network.String(), err)
	}
	return j.say(map[string]string{"tenant": tenant.Name, "network": network.String()}, "Nobody of %s is kept out who comes from %s.", tenant.Name, network)
}

func listNetworks(j *job) error {
	tenant, err := j.tenant(j.args[0])
	if err != nil {
		return err
	}
	all, err := j.store.TenantNetworks(j, tenant.ID)
	if err != nil {
		return err
	}
	views, t := []string{}, table{header: []string{"network"}}
	for _, network := range all {
		views = append(views, network.String())
		t.add(network)
	}
	return j.print(views, t)
}

func removeNetwork(j *job) error {
	tenant, err := j.tenant(j.args[0])
	if err != nil {
		return err
	}
	network, err := j.network()
	if err != nil {
		return err
	}
	if err := j.store.RemoveTenantNetwork(j, tenant.ID, network); err != nil {
		return about("network "+network.String(), err)
	}
	return j.say(map[string]string{"tenant": tenant.Name, "removed": network.String()}, "Failures from %s count again.", network)
}
