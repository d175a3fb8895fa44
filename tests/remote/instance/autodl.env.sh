export AutoDLContainerUUID=stand-in-0001 AutoDLRegion=here AutoDLDataCenter=here
export AutoDLService6006URL=https://u1-6006.example.invalid:8443 AutoDLService6008URL=https://u1-6008.example.invalid:8443
export AutodlAutoPanelToken=this-is-a-secret OMP_NUM_THREADS=64 MKL_NUM_THREADS=64
