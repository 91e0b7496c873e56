-- The test of docs/benchmarking.md with Pktgen-DPDK: many UDP flows from port 0 through tmm to port 1, one way, and a
-- search of the highest rate without loss. Start as
--   pktgen -l 1-5 -n 4 -a 0000:5e:00.0 -a 0000:5e:00.1 -- -P -m "[2:3].0" -m "[4:5].1" -f tmm.lua
-- Port 0 faces tmm port 1.1, port 1 faces tmm port 1.2.

package.path = package.path .. ";?.lua;test/?.lua;app/?.lua;../?.lua"
require "Pktgen"

local CLIENTS, MEMBERS = "0", "1"
local GATEWAY_MAC = os.getenv("GATEWAY_MAC") or "02:00:00:00:01:01" -- MAC address of tmm port 1.1
local VLAN = tonumber(os.getenv("CLIENT_VLAN") or "100")            -- 0: untagged
local SIZES = { 64, 128, 256, 512, 1024, 1280, 1518 }               -- RFC 2544, section 9.1
local SECONDS, SETTLE_MS, RESOLUTION = 60, 2000, 0.5                -- per trial; after it; percent of line rate

-- A range of values: first, last, step.
local function range(set, first, last, step)
  set(CLIENTS, "start", first)
  set(CLIENTS, "min", first)
  set(CLIENTS, "max", last)
  set(CLIENTS, "inc", step)
end

local function flows(size)
  local to = pktgen.range
  to.dst_mac(CLIENTS, "start", GATEWAY_MAC)
  range(to.src_ip, "10.1.0.1", "10.1.0.250", "0.0.0.1")
  range(to.dst_ip, "203.0.113.10", "203.0.113.10", "0.0.0.0")
  range(to.src_port, 1024, 1263, 1) -- 250 addresses and 240 ports advance together: 6,000 flows
  range(to.dst_port, 7, 7, 0)
  range(to.pkt_size, size, size, 0)
  to.ip_proto(CLIENTS, "udp")
  if VLAN > 0 then
    range(to.vlan_id, VLAN, VLAN, 0)
    pktgen.vlan(CLIENTS, "on")
  end
  pktgen.set_range(CLIENTS, "on")
end

-- One trial; returns how many frames were sent and how many came out behind tmm.
local function trial(rate, seconds)
  pktgen.clr()
  pktgen.set(CLIENTS, "rate", rate)
  pktgen.start(CLIENTS)
  pktgen.delay(seconds * 1000)
  pktgen.stop(CLIENTS)
  pktgen.delay(SETTLE_MS)
  local sent = pktgen.portStats(CLIENTS, "port")[tonumber(CLIENTS)].opackets
  local received = pktgen.portStats(MEMBERS, "port")[tonumber(MEMBERS)].ipackets
  return sent, received
end

local function search(size)
  flows(size)
  trial(0.1, 5) -- the flows are opened slowly, before anything counts
  local low, high, rate, best = 0, 100, 100, 0
  while high - low > RESOLUTION do
    local sent, received = trial(rate, SECONDS)
    -- tmm asks for its neighbours now and then: more may come in than was sent, never less.
    if received >= sent then
      low, best = rate, sent / SECONDS
    else
      high = rate
    end
    if low >= 100 then break end
    rate = (low + high) / 2
  end
  print(string.format("%5d octets: %.2f %% of the line, %.0f frames per second without loss", size, low, best))
end

pktgen.screen("off")
pktgen.set_ipaddr(CLIENTS, "src", "192.0.2.2/24")
pktgen.set_ipaddr(CLIENTS, "dst", "192.0.2.1")
pktgen.set_ipaddr(MEMBERS, "src", "198.51.100.11/24") -- the member: it must answer ARP
pktgen.set_ipaddr(MEMBERS, "dst", "198.51.100.1")
pktgen.process("all", "on")
for _, size in ipairs(SIZES) do
  search(size)
end
pktgen.quit()
